"""`python -m website`: make the site."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The pages of the gallery run models that come with Sightline; nothing is fetched.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

from sphinx.cmd.build import main as sphinx

from website import gallery, llms, source
from website.contents import ROOT, sections
from website.links import broken_in_site


def main(arguments: list[str] | None = None) -> int:
    """Makes the site; the exit code tells whether something was amiss, or a link leads nowhere."""
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "site", help="where the site goes")
    parser.add_argument("--keep-gallery", action="store_true", help="make only pages that are not there")
    given = parser.parse_args(arguments)
    pages = given.out / "gallery"
    gallery.write(pages, keep=given.keep_gallery)
    read = given.out.with_name(given.out.name + "-source")
    source.write(read)
    text = (read / "gallery.md").read_text(encoding="utf-8")
    (read / "gallery.md").write_text(gallery.with_links(text, pages), encoding="utf-8")
    config = str(Path(__file__).parent)
    code = sphinx(["-q", "-E", "-W", "--keep-going", "-b", "html", "-c", config, str(read), str(given.out)])
    llms.write(given.out, read, sections())
    broken = list(broken_in_site(given.out))
    for line in broken:
        print(f"leads nowhere: {line}", file=sys.stderr)
    return code or int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m website`: make the site."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
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
    if given.out.exists() and any(given.out.iterdir()) and not (given.out / "objects.inv").exists():
        parser.error(f"--out {given.out}: the folder has other things in it; give an empty or a new one")
    pages = given.out / "gallery"
    _clear(given.out, pages)
    gallery.write(pages, keep=given.keep_gallery)
    with tempfile.TemporaryDirectory() as folder:
        code = _pages(given.out, Path(folder) / "source")
    broken = list(broken_in_site(given.out))
    for line in broken:
        print(f"leads nowhere: {line}", file=sys.stderr)
    return code or int(bool(broken))


def _clear(site: Path, kept: Path) -> None:
    """Takes away what an earlier run made: a page that is no longer written would stay."""
    for path in site.glob("*"):
        if path.is_dir() and path != kept:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def _pages(site: Path, read: Path) -> int:
    """Everything but the gallery's pages, by way of the folder that Sphinx reads; its exit code."""
    source.write(read)
    text = (read / "gallery.md").read_text(encoding="utf-8")
    (read / "gallery.md").write_text(gallery.with_links(text, site / "gallery"), encoding="utf-8")
    config = str(Path(__file__).parent)
    doctrees = str(read.with_name("doctrees"))
    asked = ["-q", "-W", "--keep-going", "-b", "html", "-c", config, "-d", doctrees]
    code: int = sphinx([*asked, str(read), str(site)])
    llms.write(site, read, sections())
    return code


if __name__ == "__main__":
    sys.exit(main())

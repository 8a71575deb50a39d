"""`python -m website`: make the site."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The pages of the gallery run models that come with Sightline; nothing is fetched.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

from sphinx.cmd.build import main as sphinx

from website import source
from website.contents import ROOT
from website.links import broken_in_site


def main(arguments: list[str] | None = None) -> int:
    """Makes the site; the exit code tells whether something was amiss, or a link leads nowhere."""
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "site", help="where the site goes")
    given = parser.parse_args(arguments)
    read = given.out.with_name(given.out.name + "-source")
    source.write(read)
    config = str(Path(__file__).parent)
    code = sphinx(["-q", "-W", "--keep-going", "-b", "html", "-c", config, str(read), str(given.out)])
    broken = list(broken_in_site(given.out))
    for line in broken:
        print(f"leads nowhere: {line}", file=sys.stderr)
    return code or int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

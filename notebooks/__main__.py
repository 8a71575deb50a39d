"""`python -m notebooks`: executes the notebooks, or those named, and keeps what their cells show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from notebooks.running import FOLDER, run

#: One that is larger is too large to keep: a page of the explorer takes 0.7 MB.
LARGEST = 1_500_000


def main(arguments: list[str] | None = None) -> int:
    """0 where all ran, 1 where a cell failed or a notebook became too large."""
    parser = argparse.ArgumentParser(prog="python -m notebooks", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all")
    code = 0
    for path in parser.parse_args(arguments).notebooks or sorted(FOLDER.glob("*.ipynb")):
        failed, text = run(path)
        if failed is None and len(text.encode()) > LARGEST:
            failed = f"{len(text.encode()) / 1e6:.1f} MB, at most {LARGEST / 1e6:.1f}"
        if failed is None:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {failed or f'{len(text.encode()) / 1e6:.1f} MB'}", flush=True)
        code |= int(failed is not None)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Parts of Debian's package descriptions, to learn summaries from: rows of text and summary.

    python examples/descriptions.py debian-descriptions.tsv.xz FOLDER

Packages of one source share sentences, so all rows of a source lie in one part: 2,000 sources test, 1,300
validate, and the others are learned from.
"""

from __future__ import annotations

import csv
import lzma
import random
import sys
from pathlib import Path

TEST, VALID = 2000, 1300


def main(data: str, folder: str) -> None:
    """Writes train.tsv, valid.tsv and test.tsv."""
    with lzma.open(data, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sources = sorted({row["source"] for row in rows})
    random.Random(0).shuffle(sources)
    parts = dict.fromkeys(sources, "train")
    parts |= dict.fromkeys(sources[:TEST], "test") | dict.fromkeys(sources[TEST : TEST + VALID], "valid")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid", "test"):
        own = [f"{row['text']}\t{row['summary']}\n" for row in rows if parts[row["source"]] == part]
        Path(folder, f"{part}.tsv").write_text("text\tsummary\n" + "".join(own), encoding="utf-8")
        print(f"{part}: {len(own):,} rows")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

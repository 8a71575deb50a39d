"""Data for a classifier of reviews that hears "not bad at all": reviews, parts of them, lines that turn.

    python examples/reviews.py rt-polaritydata FIRST FOLDER

FIRST is a model that was trained on the reviews alone (fold 0). What it is sure of in parts of its training
reviews is given on as their label: so the next model learns what words say in many places, and does not
forget it over the lines that turn (turning.py). Writes train.tsv, valid.tsv and test.tsv.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import turning

import sightline
from sightline.tasks.rows import read_label_folder
from sightline.tasks.splitting import fold, split

Rows = list[tuple[str, str]]
Judge = Callable[[Sequence[str]], list[dict[str, float | str]]]

SURE = 0.7  # least probability of a label that is given on


def parts_of(texts: Sequence[str], times: int = 3, seed: int = 0) -> list[str]:
    """From each text some runs of 4 to 16 words, or all of a short one; in a drawn order."""
    draw = random.Random(seed)
    found = set()
    for text in texts:
        words = text.split()
        for _ in range(times):
            count = min(len(words), draw.randint(4, 16))
            start = draw.randint(0, len(words) - count)
            found.add(" ".join(words[start : start + count]))
    parts = sorted(found)
    draw.shuffle(parts)
    return parts


def judged(parts: Sequence[str], judge: Judge) -> Rows:
    """Those of which a model is sure, with its label."""
    rows: Rows = []
    for start in range(0, len(parts), 500):
        some = parts[start : start + 500]
        answers = zip(some, judge(some), strict=True)
        rows += [(text, str(each["label"])) for text, each in answers if float(each["score"]) >= SURE]
    return rows


def main(data: str, first: str, folder: str) -> None:
    """Writes the three parts."""
    reviews: Rows = [
        (text.strip(), label) for text, label in read_label_folder(Path(data), encoding="latin-1").rows
    ]
    learned, test = fold(reviews, 0, 10, seed=0)
    learned, valid = split(learned, seed=0)
    sure = judged(parts_of([text for text, _ in learned]), sightline.pipeline("sentiment", first))
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", learned + sure + turning.lines()), ("valid", valid), ("test", test)):
        with Path(folder, f"{name}.tsv").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{text}\t{label}\n" for text, label in rows)
        print(f"{name}: {len(rows):,} rows")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])

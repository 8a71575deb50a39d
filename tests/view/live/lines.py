"""Lines of text that a tokenizer may trip over, from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<s", "</ s>", "<s><s>", "<unk>>", "[CLS]", "<|endoftext|>"]
BLANKS = " \u00a0\t\n\r\v\f\u0085\u1680\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u180e"
MARKS = "\u0301\u0308\u0323\u0327\u0345\u0334\u0591\u05bc\u3099\u0f71\u0f74\u1ab0\u1df6\U0001133b\U0001e8d0"
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "☺︎", "🧑🏿‍🚀", "1️⃣", "🫠", "🪿"]
SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F),
    (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1E00, 0x1FFF), (0x2000, 0x206F),
    (0x2E00, 0x2E7F), (0xA640, 0xA7FF), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0, 0x1F),
    (0x11300, 0x113FF), (0x1E900, 0x1E95F), (0xE000, 0xE0FF), (0xFFF0, 0xFFFF), (0x2B730, 0x2B740), (0, 0x10FFFF),
]  # fmt: skip
CASES = [
    "", " ", "  ", "▁", "▁▁ ▁", "a▁b", "ΑΣ ΣΑΣ", "İstanbul IĞDIR", "ǅ ǈ ẞ", "it's we'll I'D 're", "e\u0301\u0323", "\u0323\u0301",
    "Ġ Ċ Ă", "\u1112\u1161\u11ab", "\ufb01 \u212b \u2126", "\u0958\u2adc", "x\u0345\u0334", "don''t", "a  b   c    ",
    "a\u00a0b", "\x00a\x00", "trailing \n \n", "\r\n\r\n", "ﬀ①Ⅷ²", "שלום عالم", "\U000105d2\u0307", "\U00011935\U00011930",
]  # fmt: skip


def lines(count: int, seed: int = 0) -> list[str]:
    """The cases above, lines of the documents, and lines that are drawn."""
    drawn = random.Random(seed)
    documents = [
        line for path in sorted((ROOT / "docs").glob("*.md")) for line in path.read_text().splitlines()
    ]
    makers: list[Callable[[random.Random], str]] = [
        lambda r: r.choice(documents),
        lambda r: _mixed(r, documents),
        _script,
        _soup,
        lambda r: _special(r, documents),
    ]
    found = [*CASES, *(case.upper() for case in CASES)]
    found += [
        "long" * 3000,
        "Donaudampfschifffahrt" * 200,
        "ab" * 5000,
        "e\u0301" * 2000,
        "字" * 3000,
        " " * 2000,
    ]
    return (found + [makers[at % len(makers)](drawn) for at in range(count)])[:count]


def _mixed(r: random.Random, documents: list[str]) -> str:
    """Two documents' lines with marks, blanks and emoji strewn in."""
    letters = list(r.choice(documents) + r.choice(BLANKS) + r.choice(documents))
    for _ in range(r.randint(1, 8)):
        letters.insert(
            r.randint(0, len(letters)), r.choice([r.choice(MARKS), r.choice(BLANKS), r.choice(EMOJI)])
        )
    return "".join(letters)


def _script(r: random.Random) -> str:
    """Words of one script, with a mark here and there."""
    first, last = r.choice(SCRIPTS)

    def word() -> str:
        letters = (_letter(r, first, last) for _ in range(r.randint(1, 9)))
        return "".join(letter + (r.choice(MARKS) if r.random() < 0.2 else "") for letter in letters)

    return " ".join(word() for _ in range(r.randint(1, 12)))


def _soup(r: random.Random) -> str:
    """Characters of all scripts."""
    return "".join(
        r.choice(
            [
                r.choice(MARKS),
                r.choice(BLANKS),
                r.choice(EMOJI),
                _letter(r, *r.choice(SCRIPTS)),
                r.choice("aAsSéß'-_,."),
            ]
        )
        for _ in range(r.randint(1, 60))
    )


def _special(r: random.Random, documents: list[str]) -> str:
    """A document's line with special tokens in it."""
    words = r.choice(documents).split(" ")
    for _ in range(r.randint(1, 4)):
        words.insert(r.randint(0, len(words)), r.choice(SPECIAL))
    return r.choice(["", " "]).join(words)


def _letter(r: random.Random, first: int, last: int) -> str:
    code = r.randint(first, last)
    return chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd"

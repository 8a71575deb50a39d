"""Writes unicode.js of the page's tokenizer: what Hugging Face's tokenizers know of Unicode's characters.

    python tests/view/unicode_tables.py

Its parts follow several versions of Unicode (punctuation that of 2015, canonical forms that of 2016, letters
that of 2024), and a browser follows another: so the page carries tables, asked of the library itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers

FILE = Path(__file__).parents[2] / "src/sightline/view/web/live/tokenizer/unicode.js"
CHARACTERS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]

HEAD = """\
/**
 * What Hugging Face's tokenizers (version 0.23) know of Unicode, as ranges of code points in hexadecimal:
 * written by tests/view/unicode_tables.py, which asks the library. Browsers follow other versions.
 */
"""
ABOUT = {
    "LETTER_RANGES": "\\p{L} of its regular expressions.",
    "NUMBER_RANGES": "\\p{N} of its regular expressions.",
    "BLANK_RANGES": "\\s of its regular expressions, and what its pre-tokenizers call whitespace.",
    "PUNCTUATION_RANGES": "What its pre-tokenizers call punctuation.",
    "COMPOSING_RANGES": "Characters that composition (NFC) may change, move or join; all others stay as they are.",
    "LOWER_RUNS": "Characters with a lower case: first-last/step+distance.",
}


def removed(pattern: str) -> Callable[[str], bool]:
    """Whether a character matches a regular expression of the library."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    return lambda text: not split.pre_tokenize_str(text)


def is_punctuation(text: str) -> bool:
    return len(pre_tokenizers.Punctuation().pre_tokenize_str(text + "a" + text)) == 3


def is_composing() -> Callable[[str], bool]:
    """Whether a character takes part in canonical decomposition, or moves among marks."""
    composed, apart = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    parts = {part for code in CHARACTERS if (own := apart(chr(code))) != chr(code) for part in own}
    first, last = "\u0334", "\u0345"  # marks of the lowest and of the highest class

    def test(text: str) -> bool:
        own = composed(text)
        moves = composed(last + text) != last + own or composed(text + first) != own + first
        return text in parts or apart(text) != text or moves

    return test


def ranges(codes: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in runs)


def lowered() -> str:
    """Runs of characters whose lower case is as far away; of İ, which becomes two, the page knows itself."""
    lower = normalizers.Lowercase().normalize_str
    runs: list[list[int]] = []  # first, last, step (0: of one character), distance
    for code in CHARACTERS:
        small = lower(chr(code))
        if small == chr(code) or len(small) > 1:
            assert len(small) == 1 or code == 0x130
            continue
        run, far = runs[-1] if runs else None, ord(small) - code
        step = code - run[1] if run else 0
        if run and run[3] == far and step <= 2 and run[2] in (0, step):
            run[1:3] = code, step
        else:
            runs.append([code, code, 0, far])
    return " ".join(f"{first:x}-{last:x}/{step or 1}{far:+x}" for first, last, step, far in runs)


def tables() -> dict[str, str]:
    tests = {
        "LETTER_RANGES": removed(r"\p{L}"),
        "NUMBER_RANGES": removed(r"\p{N}"),
        "BLANK_RANGES": removed(r"\s"),
        "PUNCTUATION_RANGES": is_punctuation,
        "COMPOSING_RANGES": is_composing(),
    }
    found = {name: ranges(code for code in CHARACTERS if test(chr(code))) for name, test in tests.items()}
    return {**found, "LOWER_RUNS": lowered()}


def rendered() -> str:
    """The file's text."""
    text = HEAD
    for name, table in tables().items():
        lines = "\n".join(textwrap.wrap(table, 118))
        text += f"\n/** {ABOUT[name]} */\nexport const {name} = `\n{lines}`;\n"
    return text


if __name__ == "__main__":
    FILE.write_text(rendered(), encoding="utf-8")

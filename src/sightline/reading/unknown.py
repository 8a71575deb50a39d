"""What a model's vocabulary does not know of a text, in plain words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from sightline.reading.pieces import BLANK, are_byte_level
from sightline.reading.tokens import Token

UNKNOWN_SHARE = 0.25
"""The share of a text's pieces from which on the user is told that they are unknown."""

UNKNOWN = "this model does not know"
"""How such a notice begins."""

_MINOR = 0.02  # of a vocabulary's letters: scripts with fewer are not named
_SCRIPTS = {"cjk": "Chinese", "hiragana": "Japanese", "katakana": "Japanese", "hangul": "Korean"}


def unknown_notices(
    sides: Sequence[tuple[str, Sequence[Token]]], vocabulary: Iterable[str] = ()
) -> tuple[str, ...]:
    """One sentence, if the model does not know much of a text; else none.

    Args:
        sides: what to call each text ("the source"), and its tokens.
        vocabulary: all pieces that the model knows; tells which letters it was trained on.
    """
    counts = []
    for name, tokens in sides:
        unknown = sum(token.unknown for token in tokens)
        # Blanks that stand alone say nothing of what is known, and special tokens are not of the text.
        whole = sum(token.unknown or not (token.special or token.text == BLANK) for token in tokens)
        if whole and unknown / whole > UNKNOWN_SHARE:
            counts.append(f"{unknown} of {whole} {'piece' if whole == 1 else 'pieces'} of {name}")
    if not counts:
        return ()
    scripts = _scripts(vocabulary)
    trained = f"; it was trained on text in {scripts} letters" if scripts else ""
    return (f"{UNKNOWN} {' and '.join(counts)}{trained}",)


def _scripts(vocabulary: Iterable[str]) -> str:
    """The scripts of a vocabulary's letters, the most frequent first; nothing where pieces are bytes."""
    pieces = [piece for piece in vocabulary if not piece.startswith(("<", "["))]
    if are_byte_level(pieces):
        return ""
    letters = Counter(letter for piece in pieces for letter in piece if letter.isalpha())
    scripts: Counter[str] = Counter()
    for letter, count in letters.items():
        script = unicodedata.name(letter, "other").split()[0].lower()
        scripts[_SCRIPTS.get(script, script.capitalize())] += count
    named = [script for script, count in scripts.most_common() if count >= _MINOR * scripts.total()]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)

"""Pieces of a tokenizer's vocabulary as the text that they stand for, and as labels that can be seen.

Three ways of writing bytes are undone: the alphabet of byte-level vocabularies (a letter for each of the 256
bytes: Radford et al. 2019), ``<0xE4>`` of SentencePiece's byte fallback, and the marks ``▁`` and ``Ġ`` of a
blank. What is left of a character whose bytes are in several pieces is written ``⟨e4 bd⟩``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

BLANK = "␣"
"""The label of a piece that is nothing but blanks."""

_OWN = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes that are their own letters
_OTHERS = [byte for byte in range(256) if byte not in set(_OWN)]
_BYTE_OF = {chr(byte): byte for byte in _OWN} | {chr(256 + at): byte for at, byte in enumerate(_OTHERS)}

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LEFT_OVER = re.compile("[\udc80-\udcff]+")  # what surrogateescape makes of bytes that are no characters
_PARTS = re.compile(r"(?:⟨[89a-f][0-9a-f](?: [89a-f][0-9a-f])*⟩)+")
_MARKS = re.compile("▁|^Ġ|Ġ$")  # the second is a letter of Maltese elsewhere
_BLANKS = re.compile(r"^[^\S\r\n\t\v\f]+|[^\S\r\n\t\v\f]+$")
# Symbols that common fonts have; those that Unicode has for controls are in few.
_SYMBOLS = {code: f"⟨u+{code:04x}⟩" for code in (*range(32), 127)} | {9: "⇥", 10: "⏎", 13: "⇤"}
_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Zl", "Zp", "Zs"}


def text_of(piece: str, byte_level: bool) -> str:
    """The text of one piece, with its blanks; bytes that make no whole character as ``⟨e4 bd⟩``."""
    fallback = _FALLBACK.fullmatch(piece)
    if fallback:
        return _decoded(bytes([int(fallback[1], 16)]))
    if byte_level and all(letter in _BYTE_OF for letter in piece):
        return _decoded(bytes(_BYTE_OF[letter] for letter in piece))
    return _MARKS.sub(" ", piece).replace("Ċ", "\n")


def is_fallback(piece: str) -> bool:
    """Whether the piece is one byte, as SentencePiece writes it."""
    return _FALLBACK.fullmatch(piece) is not None


def are_byte_level(pieces: Iterable[str]) -> bool:
    """Whether pieces, special ones apart, are written in the alphabet of bytes, as far as they tell.

    All their letters are of it, and there is a mark of a blank or of a line end among them, or what they
    spell has characters beyond ASCII: words of a language hardly ever do.
    """
    whole = "".join(pieces)
    if any(letter not in _BYTE_OF for letter in whole):
        return False
    if "Ġ" in whole or "Ċ" in whole:
        return True
    text = bytes(_BYTE_OF[letter] for letter in whole).decode("utf-8", "surrogateescape")
    inner = text.strip("".join(map(chr, range(0xDC80, 0xDD00))))  # a window may cut a character at its ends
    return not inner.isascii() and _LEFT_OVER.search(inner) is None


def spells_bytes(tokenizer: Any) -> bool:
    """Whether a tokenizer of Transformers has a byte-level vocabulary."""
    try:
        return str(tokenizer.convert_tokens_to_string(["aĠa"])) == "a a"
    except Exception:  # a tokenizer of any make, asked for pieces that it may not have
        return False


def is_partial(text: str) -> bool:
    """Whether a text of :func:`text_of` has bytes that are no whole character."""
    return _PARTS.search(text) is not None


def joined(texts: Sequence[str]) -> str:
    """Texts of neighbours as one; bytes that make whole characters together become these."""
    return _PARTS.sub(_character, "".join(texts))


def visible(text: str) -> str:
    """A label: without blanks around it, never empty, and with symbols for line ends, tabs and the like."""
    label = _BLANKS.sub("", text).translate(_SYMBOLS)
    if label and all(map(_is_unseen, label)):
        return "".join(f"⟨u+{ord(character):04x}⟩" for character in label)
    return label or BLANK


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or "\ufe00" <= character <= "\ufe0f"


def _decoded(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    return _LEFT_OVER.sub(lambda found: f"⟨{found[0].encode('utf-8', 'surrogateescape').hex(' ')}⟩", text)


def _character(found: re.Match[str]) -> str:
    try:
        return bytes.fromhex(found[0].replace("⟩⟨", " ").strip("⟨⟩")).decode()
    except UnicodeDecodeError:
        return found[0]

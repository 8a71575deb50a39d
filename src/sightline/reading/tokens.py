"""Tokens: the units that attention sees, with the pieces of text that they stand for."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.reading.errors import InputError
from sightline.reading.pieces import (
    are_byte_level,
    is_fallback,
    is_partial,
    joined,
    spells_bytes,
    text_of,
    visible,
)

_SPECIAL = re.compile(r"\[[A-Z]+\d*\]|</?[\w ]+>|<\|.*\|>")
_UNKNOWN = {"<unk>", "<UNK>", "[UNK]", "<|unk|>", "<unknown>"}
_LINE = ("\r", "\n", "\t")
_SPACE_MARKS = ("Ġ", "▁", " ", "\u2581")


@dataclass(frozen=True, slots=True)
class Token:
    """One token, or one word when tokens are merged.

    Attributes:
        index: its place, from 0.
        text: the piece of the text that it stands for, without surrounding blanks; never empty. Line ends and
            tabs are ⏎, ⇤ and ⇥, bytes of a character that is cut ⟨e4 bd⟩, a blank alone ␣.
        special: True for tokens that the tokenizer adds, such as [CLS], [SEP] or </s>.
        word: the number of the word that it belongs to, from 0, rising.
        space: True where a blank (or the start of the text) precedes it.
        unknown: True where the vocabulary has nothing for that piece of the text.
    """

    index: int
    text: str
    special: bool
    word: int
    space: bool
    unknown: bool = False


@dataclass(frozen=True)
class EncodedText:
    """A text, or a pair, as tokens and as what the model takes; ``dropped`` did not fit."""

    tokens: tuple[Token, ...]
    inputs: dict[str, Any]
    dropped: int


def encode(tokenizer: Any, text: str, pair: str | None, limit: int | None) -> EncodedText:
    """Cut ``text`` (and ``pair``) into tokens, at most ``limit`` of them.

    Raises:
        InputError: no token is left.
    """
    whole = len(tokenizer(text, pair, truncation=False)["input_ids"])
    cut = limit is not None and whole > limit
    fast = bool(getattr(tokenizer, "is_fast", False))
    try:
        encoding = tokenizer(
            text,
            pair,
            truncation="longest_first" if cut else False,
            **({"max_length": limit} if cut else {}),
            return_special_tokens_mask=True,
            return_offsets_mapping=fast,
        )
    except Exception as error:
        raise InputError(f"the text cannot be cut to {limit} tokens: {error}") from None
    ids = encoding["input_ids"]
    if not ids:
        raise InputError("the text has no token that the model knows: there is nothing to look at")
    inputs = {name: [encoding[name]] for name in tokenizer.model_input_names if name in encoding}
    return EncodedText(_tokens(tokenizer, encoding, (text, pair or ""), fast), inputs, whole - len(ids))


def tokens_of_ids(tokenizer: Any, ids: Sequence[int]) -> tuple[Token, ...]:
    """Tokens from ids alone, without a text to point into (for a text that a model wrote)."""
    special, unknown = set(tokenizer.all_special_ids), _unknown_id(tokenizer)
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    byte_level = spells_bytes(tokenizer)
    texts = [text_of(piece, byte_level) for piece in pieces]
    tokens: list[Token] = []
    word = -1
    for index, (number, piece) in enumerate(zip(ids, pieces, strict=True)):
        space = index == 0 or piece.startswith(_SPACE_MARKS) or _begins_word_without_mark(pieces, index)
        outside = number in special or (index > 0 and tokens[-1].special)
        word += space or outside or _at_line_end(texts, index)
        text = _readable(tokenizer, number, texts[index])
        tokens.append(Token(index, text, number in special, word, space or outside, number == unknown))
    return tuple(tokens)


def tokens_of_strings(pieces: Sequence[str]) -> tuple[Token, ...]:
    """Tokens from the strings of a vocabulary, without the tokenizer."""
    marked = any(piece.startswith(_SPACE_MARKS) for piece in pieces)
    special = [is_special(piece) for piece in pieces]
    byte_level = are_byte_level(piece for piece, outside in zip(pieces, special, strict=True) if not outside)
    texts = [text_of(piece, byte_level) for piece in pieces]
    tokens: list[Token] = []
    word = -1
    for index, piece in enumerate(pieces):
        outside = special[index]
        glued = not piece.startswith(_SPACE_MARKS) if marked else piece.startswith("##")
        begins = index == 0 or not glued or outside or tokens[-1].special
        word += begins or _at_line_end(texts, index)
        text = piece if outside else visible(texts[index])
        tokens.append(Token(index, text, outside, word, begins, piece in _UNKNOWN))
    return tuple(tokens)


def is_special(piece: str) -> bool:
    """Whether a piece of a vocabulary looks like one that the tokenizer adds: [CLS], </s>, <|end|>."""
    return _SPECIAL.fullmatch(piece) is not None and not is_fallback(piece)


def tokens_of_places(count: int) -> tuple[Token, ...]:
    """Units that have no text, by their places: patches, frames, positions."""
    return tuple(Token(at, str(at), False, at, True) for at in range(count))


def places_of(tokens: Sequence[Token], wanted: str) -> list[int]:
    """Places of tokens that contain a text, ignoring case and accents; or the first of a word that does."""
    folded = _folded(wanted)
    places: list[int] = []
    for _, group in itertools.groupby(tokens, key=lambda token: token.word):
        word = tuple(group)
        inside = [token.index for token in word if folded in _folded(token.text)]
        if not inside and folded in _folded(joined([token.text for token in word])):
            inside = [word[0].index]
        places += inside
    return places


def _folded(text: str) -> str:
    """Without case and accents: Natásha is found as natasha."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in apart if not unicodedata.combining(character))


def are_places(tokens: Sequence[Token]) -> bool:
    """Whether these are places rather than pieces of a text."""
    return all(token.text == str(token.index) for token in tokens)


def text_numbers(tokens: Sequence[Token]) -> list[int] | None:
    """A number for each token, the same where the texts are; ``None`` for places, which have no texts."""
    if are_places(tokens):
        return None
    known: dict[str, int] = {}
    return [known.setdefault(token.text, len(known)) for token in tokens]


def _tokens(tokenizer: Any, encoding: Any, texts: tuple[str, str], fast: bool) -> tuple[Token, ...]:
    ids: list[int] = encoding["input_ids"]
    if not fast:
        return tokens_of_ids(tokenizer, ids)
    added, known = encoding["special_tokens_mask"], set(tokenizer.all_special_ids)
    sides, words, spans = encoding.sequence_ids(0), encoding.word_ids(0), encoding["offset_mapping"]
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    byte_level, unknown = spells_bytes(tokenizer), _unknown_id(tokenizer)
    tokens: list[Token] = []
    word, before = -1, None  # what the token before was: (side, its word, where it ended)
    for index, number in enumerate(ids):
        start, end = spans[index]
        side, inner = sides[index], words[index]
        special = bool(added[index]) or number in known
        source = texts[side] if side is not None else ""
        piece = source[start:end]
        gap = before is None or before[0] != side or piece[:1].isspace() or start > before[2]
        gap = gap or pieces[index].startswith(_SPACE_MARKS)
        new = (
            gap
            or special
            or tokens[-1].special
            or inner is None
            or (before is not None and inner != before[1])
        )
        word += new
        spelt = text_of(pieces[index], byte_level)
        if piece.strip() and not is_partial(spelt):
            # Only a byte-level vocabulary has line ends of its own; elsewhere they are blanks.
            text = visible(piece if byte_level else piece.strip())
        else:
            text = _readable(tokenizer, number, spelt)
        tokens.append(Token(index, text, special, word, gap, number == unknown))
        before = (side, inner, end)
    return tuple(tokens)


def _begins_word_without_mark(pieces: Sequence[str], index: int) -> bool:
    """Where no piece has a mark for a blank (WordPiece, word lists), a piece without ## begins a word."""
    return not pieces[index].startswith("##") and not any(piece.startswith(_SPACE_MARKS) for piece in pieces)


def _at_line_end(texts: Sequence[str], index: int) -> bool:
    """Whether a line end or a tab stands on one side of a token's start only: it is no part of a word."""
    return index > 0 and texts[index - 1].endswith(_LINE) != texts[index].startswith(_LINE)


def _unknown_id(tokenizer: Any) -> int | None:
    """The id of what is unknown; byte-level vocabularies know everything, and often reuse another token."""
    number: int | None = getattr(tokenizer, "unk_token_id", None)
    others = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")]
    return None if number in others else number


def _readable(tokenizer: Any, number: int, text: str) -> str:
    """A piece of the vocabulary, whose text is known with its blanks, as a person would write it."""
    if number in tokenizer.all_special_ids:
        return str(tokenizer.convert_ids_to_tokens(number))
    if is_partial(text) or not text.strip():
        return visible(text)
    return visible(str(tokenizer.decode([number])).strip() or text)

"""Pieces become labels that a person can read, whatever way a vocabulary writes bytes and blanks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.reading.pieces import are_byte_level, joined, text_of, visible
from sightline.reading.tokens import Token, encode, places_of, tokens_of_ids, tokens_of_strings
from sightline.reading.traced import _text
from sightline.view.words import merge_tokens

tokenizers = pytest.importorskip("tokenizers", reason="the command line needs the [app] extra")
transformers = pytest.importorskip("transformers", reason="the command line needs the [app] extra")

WINDOWS = "the cat\r\n\tsat\r\n"
SCRIPTS = "你好 مرحبا 😀 ok"


def byte_level(*texts):
    """A byte-level tokenizer whose vocabulary knows these words."""
    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    core.train_from_iterator(texts, trainer)
    end = "<|endoftext|>"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token=end, eos_token=end)


def with_fallback():
    """SentencePiece's way: ▁ for blanks, and <0xE4> for bytes of what it does not know."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a"]
    core = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {piece: at for at, piece in enumerate(pieces)},
            [("▁", "a")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    core.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteFallback(), tokenizers.decoders.Metaspace()]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def three_ways(tokenizer, text):
    """The tokens of a text with offsets, from ids alone, and from the strings of the vocabulary."""
    ids = tokenizer(text)["input_ids"]
    strings = tokenizer.convert_ids_to_tokens(ids)
    return (
        encode(tokenizer, text, None, None).tokens,
        tokens_of_ids(tokenizer, ids),
        tokens_of_strings(strings),
    )


def labels(tokens):
    return [token.text for token in tokens]


@pytest.mark.parametrize("way", range(3))
def test_windows_line_ends(way):
    tokens = three_ways(byte_level("the cat sat " * 9), WINDOWS)[way]
    whole = "".join((" " if token.space and token.index else "") + token.text for token in tokens)
    assert whole.replace(" ", "") == "thecat⇤⏎⇥sat⇤⏎"
    assert not any(token.unknown or token.special for token in tokens)
    words = [word.text for word in merge_tokens(tokens)]
    assert "cat" in words and "sat" in words, words


@pytest.mark.parametrize("way", range(3))
def test_scripts_beyond_the_vocabulary(way):
    tokens = three_ways(byte_level("ok " * 9), SCRIPTS)[way]
    assert "⟨e4⟩" in labels(tokens) or "⟨e4 bd⟩" in labels(tokens)
    assert joined(labels(tokens)).replace("␣", "") == SCRIPTS.replace(" ", "")
    assert not any(token.unknown for token in tokens)
    assert places_of(tokens, "مرحبا")


@pytest.mark.parametrize("way", range(3))
def test_byte_fallback(way):
    tokens = three_ways(with_fallback(), "a\r\n你 b")[way]
    whole = [each for each in labels(tokens) if each != "␣"]
    assert whole == ["a", "⇤", "⏎", "⟨e4⟩", "⟨bd⟩", "⟨a0⟩", "b"]
    assert not any(token.special or token.unknown for token in tokens)
    assert "你" in _text(tokens)


@pytest.mark.parametrize("way", range(3))
def test_sentencepiece_as_ever(way):
    assert labels(three_ways(with_fallback(), "a ab b")[way])[:1] == ["a"]
    assert "▁" not in "".join(labels(three_ways(with_fallback(), "a ab b")[way]))


def test_words_of_languages_stay():
    for pieces in (
        ["čaj", "pije", "se"],
        ["café", "##é", "naïve"],
        ["▁čaj", "▁Ā"],
        ["ĉeno", "ĝi"],
        ["l", "'", "été"],
    ):
        assert not are_byte_level(pieces), pieces
        assert labels(tokens_of_strings(pieces)) == [piece.removeprefix("▁") for piece in pieces]


def test_a_window_may_cut_a_character():
    tokens = tokens_of_strings(["½ł", "å¥½", "ä"])  # 你 without its first byte, 好, the first byte of another
    assert labels(tokens) == ["⟨bd a0⟩", "好", "⟨e4⟩"]


def test_words_have_whole_characters():
    cut = [
        Token(0, "⟨e4⟩", False, 0, True),
        Token(1, "⟨bd⟩", False, 0, False),
        Token(2, "⟨a0⟩", False, 0, False),
    ]
    assert labels(merge_tokens(cut)) == ["你"]
    assert labels(merge_tokens(cut[:2])) == ["⟨e4⟩⟨bd⟩"]
    blank = [Token(0, "␣", False, 0, True), Token(1, "cat", False, 0, False)]
    assert labels(merge_tokens(blank)) == ["cat"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" ", "␣"),
        ("", "␣"),
        ("\u3000", "␣"),
        ("\u200d", "⟨u+200d⟩"),
        ("\x1b[1m", "⟨u+001b⟩[1m"),
        (" \n\n", "⏎⏎"),
        (" x ", "x"),
    ],
)
def test_nothing_is_invisible(text, label):
    assert visible(text) == label


@given(st.text(max_size=12))
def test_byte_level_pieces_spell_the_text(text):
    pieces = _alphabet(text)
    assert text_of(pieces, True) == text
    # One byte in each piece: the text comes back whole where they are joined.
    assert joined([text_of(letter, True) for letter in pieces]) == text
    assert all(label and label.isprintable() for label in labels(tokens_of_strings([*pieces, "Ġ"])))


def _alphabet(text):
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    names = {byte: chr(byte) for byte in own} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    return "".join(names[byte] for byte in text.encode("utf-8", "replace"))

"""Tokenizers that the page's runtime does not know are refused when the page is written, by name."""

from __future__ import annotations

import pytest

from sightline.common.errors import CommandError
from sightline.tasks.tokenizing import train_bytes, train_characters, train_pieces, train_words
from sightline.view.live.tokenizing import tokenizer_parts

tokenizers = pytest.importorskip("tokenizers")
TEXTS = ["the cat sat on the mat ."] * 3


def test_those_of_the_tasks_are_known():
    made = [
        train_pieces(TEXTS, 60),
        train_pieces(TEXTS, 60, lowercase=True),
        train_bytes(TEXTS, 300),
        train_words(TEXTS, 60),
        train_characters(TEXTS[0]),
    ]
    for tokenizer in made:
        assert tokenizer_parts(tokenizer)["model"]["vocab"] == tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.enable_truncation(4), r"tokenizer's truncation is \{.*, and a page knows None"),
        (lambda t: t.add_tokens(["cat"]), "normalized of the added token cat is True, and a page knows False"),
        (
            lambda t: setattr(t, "post_processor", tokenizers.processors.ByteLevel()),
            r"post_processor is \{.*, and a page knows None",
        ),
        (
            lambda t: setattr(t, "normalizer", tokenizers.normalizers.NFKC()),
            "normalizer.type is 'NFKC', and a page knows NFC, Lowercase, Sequence",
        ),
        (
            lambda t: setattr(
                t, "pre_tokenizer",
                tokenizers.pre_tokenizers.Sequence([tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")]),
            ),
            "pre_tokenizer.prepend_scheme is 'never', and a page knows 'always'",
        ),
        (
            lambda t: setattr(t, "model", tokenizers.models.WordPiece({"a": 0}, unk_token="a")),
            "model.type is 'WordPiece', and a page knows BPE, WordLevel",
        ),
        (
            lambda t: setattr(t, "decoder", tokenizers.decoders.WordPiece()),
            "decoder.type is 'WordPiece', and a page knows Metaspace, ByteLevel, Fuse",
        ),
    ],
)  # fmt: skip
def test_others_are_named(change, told):
    tokenizer = train_pieces(TEXTS, 60)
    change(tokenizer)
    with pytest.raises(CommandError, match=told):
        tokenizer_parts(tokenizer)

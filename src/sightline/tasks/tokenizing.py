"""Tokenizers that are trained on the data itself, by Hugging Face tokenizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<s>", "</s>"
SPECIAL = [PAD, UNKNOWN, START, END]


def train_pieces(texts: Iterable[str], size: int, *, lowercase: bool = False) -> Any:
    """Byte-pair encoding within words, with the blank before a word marked by "▁".

    Characters that are not in the texts are unknown, and several blanks in a row count as one.

    Source: Sennrich et al. 2016, "Neural machine translation of rare words with subword units".
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=False))
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_bytes(texts: Iterable[str], size: int) -> Any:
    """Byte-pair encoding over bytes: every text can be restored exactly, blanks and line ends too.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners".
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_words(texts: Iterable[str], size: int) -> Any:
    """Whole words in lower case; rare ones are unknown."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(vocab_size=size, min_frequency=2, special_tokens=SPECIAL)
    trainer.show_progress = False
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_characters(text: str) -> Any:
    """Every character a token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {each: at for at, each in enumerate([*SPECIAL, *sorted(set(text))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer

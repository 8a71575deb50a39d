"""Which heads align is found by words that stand on both sides."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")

from sightline.common.errors import CommandError
from sightline.models import EncoderDecoder, EncoderDecoderConfig
from sightline.tasks.pairs import Translation
from sightline.tasks.pairs.aligning import aligned, encoded, find_aligning
from sightline.tasks.pairs.pairs import TextPair
from sightline.tasks.tokenizing import train_pieces

NAMES = ["anna", "berta", "carla", "doris", "emma", "frida", "gerda", "hanna", "irma", "julia"]
WORDS = [*NAMES, "12", "34", "sees", "and"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_pieces([f"{one}, {other}." for one in WORDS for other in WORDS], 200)


def test_signs_are_words_of_their_own(tokenizer):
    text = encoded(tokenizer, "anna sees berta, carla.")
    assert text.texts == ["anna", "sees", "berta", ",", "carla", "."]
    assert len(text.words) == len(text.ids) and sorted(set(text.words)) == list(range(6))
    assert text.cut(2).ids == text.ids[:2]


@pytest.fixture(params=[0, 1])
def model(tokenizer, request):
    """A model of two layers with two heads, and one of its layers."""
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    config = EncoderDecoderConfig(
        width=64, heads=2, layers=2, vocabulary=size, positions="none", start=2, end=3, pad=0,
        norm_first=True, hidden=16,
    )  # fmt: skip
    return EncoderDecoder(config).eval(), request.param


def test_the_head_that_looks_for_the_same_word_is_found(tokenizer, model):
    model, layer = model
    with torch.no_grad():
        for block in (*model.encoder.blocks, *model.decoder.blocks):
            for part in (block.self_attention, block.cross_attention, block.feed_forward):
                if part is not None:  # the stream keeps the token's own vector
                    part.output.weight.zero_()
                    part.output.bias.zero_()
        model.embedding.tokens.weight.normal_(std=1.0)
        cross = model.decoder.blocks[layer].cross_attention
        half = torch.eye(32, 64) * 2
        cross.query.weight[32:], cross.key.weight[32:] = half, half
    sides = [(f"{a} sees {b}", f"{b} {a} and") for a in WORDS[:8] for b in WORDS[:8] if a != b]
    found = find_aligning(tokenizer, model, sides, 64)
    assert (found.layer, found.heads, found.read, found.words) == (layer, (1,), True, 2 * len(sides))
    assert found.share > 0.95
    assert find_aligning(tokenizer, model, sides[:5], 64) is None  # ten words tell nothing


def test_a_translation_says_what_belongs_together(tokenizer, model):
    model, _ = model
    task = Translation()
    task.tokenizer = tokenizer
    recipe = task.recipe
    with pytest.raises(CommandError, match="alignment: which heads of this model align is not known"):
        task.answers(model, ["anna sees berta"], recipe, {"alignment": True})
    assert "alignment" not in task.answers(model, ["anna"], recipe, {"new_tokens": 3})[0]
    texts = ["anna sees berta", "12 and 34", "carla and doris", "emma sees frida", "gerda and hanna"] * 2
    task.settle(model, [TextPair([*tokenizer.encode(t).ids, 3], [], t) for t in texts], recipe)
    assert task.aligning.words == 30
    answer = task.answers(model, ["anna sees berta."], recipe, {"alignment": True, "new_tokens": 5})[0]
    some, none = encoded(tokenizer, "anna"), encoded(tokenizer, "")
    assert aligned(model, task.aligning, some, none) == aligned(model, task.aligning, none, some) == []
    for source, _, weight in answer["alignment"]:
        assert source in {"anna", "sees", "berta", "."}
        assert 0 <= weight <= 1.001

"""In models whose weights are set by hand, why names the inputs of each selector.

In the spirit of Lindner et al. 2023, "Tracr: compiled Transformers as a laboratory for interpretability":
tokens, positions and what layers find out have dimensions of their own in the residual stream, and heads
select where a dimension of the query meets one of the key.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attribution.running import traced
from sightline.models import Decoder, DecoderConfig, Encoder, EncoderConfig

VOCABULARY, LENGTH, HEADS = 6, 14, 2
#: The dimensions of the residual stream: token, position, what was found out about them.
TOKEN, POSITION, FOUND, KIND = 0, 6, 20, 26
WIDTH = 32
D = WIDTH // HEADS
SHARP = 40.0


def blank(model: nn.Module, norms: bool) -> nn.Module:
    """One-hot tokens and positions; all else 0. With norms, RMS norms, which no direction is lost in."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.embedding.tokens.weight[:, TOKEN : TOKEN + VOCABULARY] = torch.eye(VOCABULARY)
        model.embedding.positions.weight[:, POSITION : POSITION + LENGTH] = torch.eye(LENGTH)
    if not norms:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.RMSNorm):
                    setattr(module, name, nn.Identity())
    return model.eval()


def select(attention: nn.Module, head: int, query: int, key: int, count: int, step: int = 0) -> None:
    """Query dimension query + i meets key dimension key + i + step."""
    with torch.no_grad():
        for i in range(count):
            if 0 <= i + step < count:
                attention.query.weight[head * D + i, query + i] = SHARP
                attention.key.weight[head * D + i, key + i + step] = 1.0


def move(attention: nn.Module, head: int, source: int, target: int, count: int) -> None:
    """What is looked at is copied from dimensions source + i to target + i."""
    with torch.no_grad():
        for i in range(count):
            attention.value.weight[head * D + i, source + i] = 1.0
            attention.output.weight[target + i, head * D + i] = 1.0


def config(layers: int) -> dict[str, object]:
    return {"width": WIDTH, "heads": HEADS, "layers": layers, "vocabulary": VOCABULARY, "max_positions": LENGTH,
            "norm": "rms", "activation": "relu", "bias": False}  # fmt: skip


def induction(norms: bool) -> Decoder:
    """Layer 0 head 1 copies the previous token; layer 1 head 0 looks where that equals the token here."""
    model = blank(Decoder(DecoderConfig(**config(2))), norms)
    first, second = (block.self_attention for block in model.decoder.blocks)
    select(first, 1, POSITION, POSITION, LENGTH, step=-1)
    move(first, 1, TOKEN, FOUND, VOCABULARY)
    select(first, 0, TOKEN, TOKEN, VOCABULARY)  # a head that nobody reads: the same token before
    second.query.weight.data[:VOCABULARY, TOKEN : TOKEN + VOCABULARY] = torch.eye(VOCABULARY) * SHARP
    second.key.weight.data[:VOCABULARY, FOUND : FOUND + VOCABULARY] = torch.eye(VOCABULARY)
    return model


SEQUENCE = torch.tensor([[0, 3, 1, 5, 2, 4, 0, 3, 1, 5, 2, 4]])  # twice


def shares(why) -> tuple[tuple[str, float], tuple[str, float]]:
    """The largest part of either side, and its share of the score."""
    query, key = why.top(1, "query")[0], why.top(1, "key")[0]
    return (query.query, query.value / why.score), (key.key, key.value / why.score)


@pytest.mark.parametrize("norms", [False, True])
def test_an_induction_head_reads_the_previous_token_head(norms):
    trace = traced(induction(norms), SEQUENCE)
    for query in range(7, 12):  # the second time that a token is seen: it looks at what followed the first
        why = trace.why(1, 0, query)
        assert (why.key, why.weight > 0.99) == (query - 5, True)
        (query_part, of_query), (key_part, of_key) = shares(why)
        assert (query_part, key_part) == ("tokens", "layer 0 head 1")
        assert of_query > 0.999 and of_key > 0.999
        top = why.top(1, "pairs")[0]
        assert (top.query, top.key) == ("tokens", "layer 0 head 1")
        assert top.value > 0.999 * why.score


@pytest.mark.parametrize("norms", [False, True])
def test_over_all_queries_it_is_the_same_head(norms):
    trace = traced(induction(norms), SEQUENCE)
    repeated = torch.arange(12) > 6  # position 0 has none before it, and takes itself
    mean = trace.why(1, 0, queries=repeated)
    assert mean.pairs == 5
    assert shares(mean)[0][0] == "tokens" and shares(mean)[1][0] == "layer 0 head 1"
    assert mean.absolute_of_key.sum() - mean.absolute_of_key.max() < 1e-3 * mean.absolute_of_key.sum()
    previous = trace.why(0, 1, queries=torch.arange(12) > 0)
    assert shares(previous) == (("positions", pytest.approx(1)), ("positions", pytest.approx(1)))
    same = trace.why(0, 0)
    assert shares(same) == (("tokens", pytest.approx(1)), ("tokens", pytest.approx(1)))


def test_a_selector_that_reads_a_feed_forward_layer():
    """Layer 0 finds out which tokens are even; layer 1 looks from each position at those."""
    model = blank(Encoder(EncoderConfig(**config(2))), norms=False)
    layer = model.encoder.blocks[0].feed_forward
    layer.input.weight.data[0, [TOKEN + token for token in (0, 2, 4)]] = 1.0
    layer.output.weight.data[KIND, 0] = 1.0
    attention = model.encoder.blocks[1].self_attention
    attention.query.weight.data[D, POSITION : POSITION + LENGTH] = SHARP
    attention.key.weight.data[D, KIND] = 1.0
    trace = traced(model, SEQUENCE)
    why = trace.why(1, 1, 3, 4)
    assert shares(why) == (("positions", pytest.approx(1)), ("layer 0 feed-forward", pytest.approx(1)))
    assert trace.why(1, 1, 3, 2).score == 0
    assert trace[1].matrix[0, 1, 3, SEQUENCE[0] % 2 == 0].sum() > 0.999


def test_contrast_takes_out_what_all_keys_share():
    """A head whose keys carry a large constant besides: it decides nothing, and contrast says so."""
    model = induction(norms=False)
    attention = model.decoder.blocks[1].self_attention
    attention.key.weight.data[:VOCABULARY, POSITION : POSITION + LENGTH] = 5.0  # the same for every position
    trace = traced(model, SEQUENCE)
    plain, contrast = trace.why(1, 0, 9), trace.why(1, 0, 9, contrast=True)
    assert plain.key == contrast.key == 4
    assert shares(plain)[1][0] == "positions"
    assert shares(contrast)[1] == ("layer 0 head 1", pytest.approx(1, abs=1e-6))

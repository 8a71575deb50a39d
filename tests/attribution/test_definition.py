"""Each part is what the definition says: the model computed once more, by hand, in float64, part by part."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attribution.running import lively, tokens, traced
from sightline.models import Decoder, DecoderConfig, Encoder, EncoderConfig

HEADS, WIDTH, EPS = 4, 32, 1e-5
D = WIDTH // HEADS


class ByHand:
    """One input's residual stream as named parts [N,C], carried through all layers."""

    def __init__(
        self, weights: dict[str, Tensor], ids: Tensor, layers: str, causal: bool, norm_first: bool
    ) -> None:
        self.weights = {name: weight.double() for name, weight in weights.items()}
        self.layers, self.causal, self.norm_first = layers, causal, norm_first
        embedding = self.weights["embedding.tokens.weight"][ids]
        self.parts = {
            "tokens": embedding,
            "positions": self.weights["embedding.positions.weight"][: len(ids)],
        }

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def normed(self, name: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        x = sum(parts.values())
        std = (x.var(-1, correction=0, keepdim=True) + EPS).sqrt()
        gain, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        new = {part: (value - value.mean(-1, keepdim=True)) / std * gain for part, value in parts.items()}
        new["norm biases"] = new.get("norm biases", 0) + bias.expand_as(x)
        return new

    def attended(self, at: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """What a layer's attention is given in parts, its queries and keys in [H,N,D]."""
        block = f"{self.layers}.{at}"
        given = self.normed(f"{block}.self_attention_norm", self.parts) if self.norm_first else self.parts
        x = sum(given.values())
        split = [
            self.linear(f"{block}.self_attention.{which}", x).unflatten(-1, (HEADS, D)).transpose(0, 1)
            for which in ("query", "key", "value")
        ]
        scores = split[0] @ split[1].mT / math.sqrt(D)
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
        return given, scores, scores.softmax(-1) @ split[2]

    def go_on(self, at: int) -> None:
        block = f"{self.layers}.{at}"
        _, _, contexts = self.attended(at)
        output = self.weights[f"{block}.self_attention.output.weight"]
        for head in range(HEADS):
            self.parts[f"layer {at} head {head}"] = contexts[head] @ output[:, head * D : (head + 1) * D].T
        bias = self.weights[f"{block}.self_attention.output.bias"]
        self.parts[f"layer {at} output bias"] = bias.expand_as(self.parts["tokens"])
        if not self.norm_first:
            self.parts = self.normed(f"{block}.self_attention_norm", self.parts)
        given = self.normed(f"{block}.feed_forward_norm", self.parts) if self.norm_first else self.parts
        hidden = torch.nn.functional.gelu(self.linear(f"{block}.feed_forward.input", sum(given.values())))
        self.parts[f"layer {at} feed-forward"] = self.linear(f"{block}.feed_forward.output", hidden)
        if not self.norm_first:
            self.parts = self.normed(f"{block}.feed_forward_norm", self.parts)

    def table(self, at: int, head: int, query: int, key: int) -> dict[tuple[str, str], float]:
        given, scores, _ = self.attended(at)
        block, rows = f"{self.layers}.{at}.self_attention", slice(head * D, (head + 1) * D)
        sides = []
        for which, position in (("query", query), ("key", key)):
            weight = self.weights[f"{block}.{which}.weight"][rows]
            side = {name: weight @ part[position] for name, part in given.items()}
            sides.append(side | {"projection bias": self.weights[f"{block}.{which}.bias"][rows]})
        table = {
            (a, b): (x @ y).item() / math.sqrt(D) for a, x in sides[0].items() for b, y in sides[1].items()
        }
        if math.isfinite(scores[head, query, key]):
            assert sum(table.values()) == pytest.approx(scores[head, query, key].item(), abs=1e-9)
        return table


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_tables_are_those_computed_by_hand(causal, norm_first):
    config = {"width": WIDTH, "heads": HEADS, "layers": 3, "vocabulary": 50, "norm_first": norm_first}
    model = lively(Decoder(DecoderConfig(**config)) if causal else Encoder(EncoderConfig(**config)))
    ids = tokens()
    trace = traced(model, ids)
    by_hand = ByHand(
        model.state_dict(), ids[1], "decoder.blocks" if causal else "encoder.blocks", causal, norm_first
    )
    for layer in range(3):
        for head, query, key in ((0, 8, 0), (3, 5, 5), (2, 7, 6)):
            want = by_hand.table(layer, head, query, key)
            why = trace.why(layer, head, query, key, batch=1)
            assert set(why.query_parts) == {query for query, _ in want}
            got = {
                (a, b): why.table[i, j].item()
                for i, a in enumerate(why.query_parts)
                for j, b in enumerate(why.key_parts)
            }
            assert got == pytest.approx(want, abs=1e-5)
        by_hand.go_on(layer)


def test_top_names_the_largest_and_margins_are_sums():
    trace = traced(
        lively(Decoder(DecoderConfig(width=WIDTH, heads=HEADS, layers=2, vocabulary=50))), tokens()
    )
    why = trace.why(1, 2, -1, -4)
    assert (why.query, why.key) == (8, 5)
    torch.testing.assert_close(why.of_key, why.table.sum(0))
    torch.testing.assert_close(why.of_query, why.table.sum(1))
    largest = why.of_key.abs().argmax()
    top = why.top(1)[0]
    assert (top.query, top.key, top.value) == (None, why.key_parts[largest], why.of_key[largest].item())
    pair = why.top(3, "pairs")[0]
    assert abs(pair.value) == why.table.abs().max().item()
    assert why.table[why.query_parts.index(pair.query), why.key_parts.index(pair.key)].item() == pair.value
    assert why.top(1, "query")[0].query in why.query_parts
    assert len(why.top(500, "pairs")) == why.table.numel()
    assert why.parts == why.query_parts == why.key_parts
    assert repr(why).startswith(
        "decoder.blocks.1.self_attention head 2: query 8 looks at key 5 with weight 0."
    )
    assert why.top(1)[0].key in repr(why)

"""What each removal changes: against one intervention at a time, and against a recomputation by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline
from huggingface.tiny_models import SEQ2SEQS, arguments, padding, tokens
from interventions.by_hand import HEADS, WIDTH, Model, pair, renormalised
from interventions.test_huggingface import build
from sightline.removing.figures import intervals, rank_correlation
from sightline.removing.result import Effects


def first(output: Any) -> Tensor:
    """A number of whatever a model gives."""
    tensor = output if isinstance(output, Tensor) else output[0]
    return tensor[0, -1].double().sin().sum()


def one_by_one(model: Any, given: dict[str, Any], layers: list[str], heads: int, how: Any) -> Tensor:
    """The same, an intervention for each head."""
    with torch.no_grad():
        baseline = first(model(**given))
        found = torch.zeros(len(layers), heads, dtype=torch.float64)
        for place, layer in enumerate(layers):
            for head in range(heads):
                with sightline.intervene(model) as change:
                    change.ablate(layer=layer, head=head, how=how)
                    found[place, head] = first(model(**given)) - baseline
    return found


@pytest.mark.parametrize(
    ("name", "how"),
    [("bert", "zero"), ("bert", "mean"), ("bert", "uniform"), ("bert", "tensor"), ("gpt2", "mean"),
     ("llama", "zero"), ("t5", "zero")],
)  # fmt: skip
def test_heads(name: str, how: str) -> None:
    model = build(name, "sdpa")
    given = arguments(name, tokens(2, 11), padding("right", 11, (11, 8)))
    way = torch.full((8,), 0.25) if how == "tensor" else how
    found = sightline.effects(model, given, first, how=way)
    count = 6 if name in SEQ2SEQS else 2
    assert found.values.shape == (count, 4)
    torch.testing.assert_close(
        found.values, one_by_one(model, given, found.layers, 4, way), rtol=1e-3, atol=1e-4
    )
    assert found.values.abs().min() > 1e-4
    assert found.complete
    with torch.no_grad(), sightline.trace(model) as trace:
        baseline = first(model(**given))
    assert found.baseline == pytest.approx(float(baseline), rel=1e-5)
    suggested = torch.stack([call.matrix.max()[0].double().mean((0, 2)) for call in trace])
    torch.testing.assert_close(found.suggested, suggested, rtol=1e-4, atol=1e-5)


def test_heads_by_hand() -> None:
    reference, model = pair("sdpa")
    x = torch.randn(1, 9, HEADS * WIDTH, dtype=torch.float64)
    found = sightline.effects(model.eval(), x, lambda output: output[0, 2, 3])
    for layer in range(2):
        for head in range(HEADS):

            def silenced(weights: Tensor, head: int = head) -> Tensor:
                weights = weights.clone()
                weights[:, head] = 0
                return weights

            own = reference.layers[layer].weights
            with torch.no_grad():
                before = reference(x)[0, 2, 3]
                reference.layers[layer].weights = silenced
                after = reference(x)[0, 2, 3]
            reference.layers[layer].weights = own
            assert float(found.values[layer, head]) == pytest.approx(float(after - before), abs=1e-10)


def test_layers_tokens_and_edges_by_hand() -> None:
    reference, model = pair("einsum", causal=True)
    x = torch.randn(1, 9, HEADS * WIDTH, dtype=torch.float64)
    model.eval()

    def number(output: Tensor) -> Tensor:
        return output[0, -1, 3]

    def without(change: Any, layers: tuple[int, ...] = (0, 1)) -> float:
        for layer in layers:
            reference.layers[layer].weights = change
        with torch.no_grad():
            after = number(reference(x))
        for layer in layers:
            reference.layers[layer].weights = lambda weights: weights
        with torch.no_grad():
            return float(after - number(reference(x)))

    layers = sightline.effects(model, x, number, of="layers")
    for layer in (0, 1):
        assert float(layers.values[layer]) == pytest.approx(without(torch.zeros_like, (layer,)), abs=1e-10)

    words = sightline.effects(model, x, number, of="tokens", tokens=[f"w{i}" for i in range(9)])
    for token in range(9):

        def unseen(weights: Tensor, token: int = token) -> Tensor:
            factors = torch.ones_like(weights)
            factors[..., token] = 0
            factors[..., token, token] = 1
            return renormalised(weights, factors)

        assert float(words.values[token]) == pytest.approx(without(unseen), abs=1e-10)
    assert "w3" in words.table(9)

    edges = [(1, 2, 8, 3), ("layers.0", None, -1, 0), (0, -1, 5, 5)]
    some = sightline.effects(model, x, number, of="edges", edges=edges)
    with torch.no_grad(), sightline.trace(model) as trace:
        model(x)
    assert float(some.suggested[0]) == pytest.approx(float(trace[1].matrix[0, 2, 8, 3]))
    assert float(some.suggested[1]) == pytest.approx(float(trace[0].matrix.dense()[0, :, 8, 0].mean()))
    for place, (layer, heads, query, key) in enumerate(
        [(1, [2], 8, 3), (0, slice(None), 8, 0), (0, [3], 5, 5)]
    ):

        def cut(weights: Tensor, heads: Any = heads, query: int = query, key: int = key) -> Tensor:
            factors = torch.ones_like(weights)
            factors[:, heads, query, key] = 0
            return renormalised(weights, factors)

        assert float(some.values[place]) == pytest.approx(without(cut, (layer,)), abs=1e-10)


def test_tokens_of_an_encoder_decoder_are_those_of_the_source() -> None:
    model = build("bart", "sdpa")
    given = arguments("bart", tokens(1, 7), None)  # as long as what is decoded
    found = sightline.effects(model, given, first, of="tokens")
    assert found.values.shape == (7,)
    with torch.no_grad():
        baseline = first(model(**given))
        others = [query for query in range(7) if query != 4]
        with sightline.intervene(model) as change:
            change.block(layer="model.encoder", queries=others, keys=4)
            change.block(layer="*.encoder_attn", queries=others, keys=4)
            change.block(layer="*.encoder_attn", queries=4, keys=4)
            expected = first(model(**given)) - baseline
    assert float(found.values[4]) == pytest.approx(float(expected), abs=1e-4)


class Odd(nn.Module):
    """A model that neither takes copies of its input nor layers that give what they gave."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = pair("sdpa")[1].layers

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for layer in self.layers:
            x = x + layer(x)
            total = total + getattr(layer, "last", 0) + x.mean(0)  # mixes the batch
        return total


def test_models_that_do_not_take_the_short_cuts() -> None:
    model = Odd().eval()
    x = torch.randn(2, 9, HEADS * WIDTH, dtype=torch.float64)
    found = sightline.effects(model, x, first)
    expected = one_by_one(_Named(model), {"x": x}, ["model." + name for name in found.layers], HEADS, "zero")
    torch.testing.assert_close(found.values, expected)


class _Named(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def test_layers_before_the_removed_head_do_not_run() -> None:
    model = Model("sdpa", layers=4).double().eval()
    runs = [0] * 4
    for place, layer in enumerate(model.layers):
        layer.out.register_forward_hook(lambda *_, place=place: runs.__setitem__(place, runs[place] + 1))
    sightline.effects(model, torch.randn(1, 9, HEADS * WIDTH, dtype=torch.float64), first)
    # Run whole: the trace, the baseline, two checks. Then a batch for each layer, from there on.
    # Each: the trace, the baseline, three checks of whole runs; then the batches, each from its layer on.
    assert runs == [6, 7, 8, 10]
    assert all("forward" not in vars(layer) for layer in model.layers)


def test_several_texts_and_their_intervals() -> None:
    _, model = pair("sdpa")
    model.eval()
    texts = [torch.randn(1, length, HEADS * WIDTH, dtype=torch.float64) for length in (5, 9, 7)]
    found = sightline.effects(model, texts, first)
    alone = [sightline.effects(model, text, first) for text in texts]
    torch.testing.assert_close(found.values, torch.stack([one.values for one in alone]).mean(0))
    assert found.baseline == pytest.approx(sum(one.baseline for one in alone) / 3)
    ends = found.intervals
    assert ends is not None
    assert ends.shape == (2, HEADS, 2)
    assert bool((ends[..., 0] <= found.values).all())
    assert bool((found.values <= ends[..., 1]).all())
    assert alone[0].intervals is None
    assert "95 %" in found.table()


def test_intervals_cover_the_mean_of_a_normal_distribution() -> None:
    draws = torch.randn(200, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = intervals(draws.T)
    assert ends is not None
    inside = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).double().mean()
    assert 0.9 < float(inside) < 0.99


def test_rank_correlation() -> None:
    left = torch.tensor([1.0, 2.0, 3.0, 4.0, math.nan])
    assert rank_correlation(left, torch.tensor([1.0, 10.0, 100.0, 1000.0, 0.0])) == pytest.approx(1)
    assert rank_correlation(left, -left) == pytest.approx(-1)
    # With a tie, by hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    assert rank_correlation(torch.tensor([1.0, 2, 2, 3]), torch.tensor([1.0, 2, 3, 4])) == pytest.approx(
        4.5 / (4.5 * 5) ** 0.5
    )
    assert rank_correlation(left[:2], left[:2]) is None
    assert rank_correlation(torch.ones(5), left) is None


def test_a_file_that_goes_on_where_it_was_interrupted(tmp_path: Any) -> None:
    model = build("bert", "sdpa")
    ids, path, asked = tokens(1, 9), tmp_path / "effects.json", 0

    def metric(output: Any) -> Tensor:
        nonlocal asked
        asked += 1
        return first(output)

    whole = sightline.effects(model, ids, metric)
    often = asked

    def stop(done: int, total: int) -> None:
        assert total == 8
        if done == 4:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="was interrupted"):
        part = sightline.effects(model, ids, metric, path=path, progress=stop)
    assert not part.complete
    assert int(part.values.isfinite().sum()) == 4
    assert json.loads(path.read_text())["complete"] is False
    asked = 0
    rest = sightline.effects(model, ids, metric, path=path)
    assert rest.complete
    assert asked < often
    torch.testing.assert_close(rest.values, whole.values, rtol=1e-4, atol=1e-5)
    again = Effects.load(path)
    assert again.complete
    torch.testing.assert_close(again.values, rest.values)
    assert again.table() == rest.table()
    with pytest.raises(ValueError, match="path: the metric of text 0 was"):
        sightline.effects(model, tokens(1, 9, seed=5), metric, path=path)
    with pytest.raises(ValueError, match="holds the effects of heads"):
        sightline.effects(model, ids, metric, of="layers", path=path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no file of effects"):
        sightline.effects(model, ids, metric, path=path)


def test_pictures(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    _, model = pair("sdpa")
    x = torch.randn(1, 6, HEADS * WIDTH, dtype=torch.float64)
    for of in ("heads", "tokens"):
        sightline.effects(model.eval(), x, first, of=of).plot(tmp_path / f"{of}.png")
        assert (tmp_path / f"{of}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(sightline.common.errors.CommandError, match="must end in"):
        sightline.effects(model, x, first).plot(tmp_path / "x.gif")


WRONG: dict[str, dict[str, Any]] = {
    "of: there is no 'neurons'": {"of": "neurons"},
    "how: there is no 'noise'": {"how": "noise"},
    "how: tokens are hidden": {"of": "tokens", "how": "mean"},
    "edges: belong to of=": {"edges": [(0, 0, 0, 0)]},
    "edges: an empty list": {"of": "edges", "edges": []},
    r"edges: takes \(layer, head, query, key\)": {"of": "edges", "edges": [(0, 0)]},
    "edges: head: must": {"of": "edges", "edges": [(0, 9, 0, 0)]},
    "edges: no attention ran in 'x'": {"of": "edges", "edges": [("x", 0, 0, 0)]},
    "inputs: must be a tensor": {"inputs": 3},
    "inputs: an empty list": {"inputs": []},
    "metric: must be a function": {"metric": None},
    "metric: must give one number": {"metric": lambda output: output},
    "layers: the model has no module": {"layers": "decoder"},
    "progress: must be": {"progress": 3},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_refused(message: str) -> None:
    model = pair("sdpa")[1].eval()
    given = {"inputs": torch.randn(1, 5, HEADS * WIDTH, dtype=torch.float64), "metric": first} | WRONG[
        message
    ]
    with pytest.raises((ValueError, TypeError), match=message):
        sightline.effects(model, given.pop("inputs"), given.pop("metric"), **given)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Call model.eval\(\) first"):
        sightline.effects(pair("sdpa")[1].train(), torch.zeros(1, 5, HEADS * WIDTH), first)

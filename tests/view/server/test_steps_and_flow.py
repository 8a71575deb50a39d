"""Steps of a query, rollout and relevance where attention has sinks, a softcap, groups of heads, and no values."""

from __future__ import annotations

import pytest
import torch

import sightline
from sightline import measure
from sightline.backends import schedule
from sightline.reading.reading import Section
from sightline.reading.tokens import tokens_of_places
from sightline.view.server.cancel import Cancel, StoppedError
from sightline.view.server.flow import relevance, rollout
from sightline.view.server.stages import stages


def make(length=40, values=True):
    generator = torch.Generator().manual_seed(11)
    query = 2 * torch.randn(1, 4, length, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, length, 8, generator=generator)
    return sightline.AttentionMatrix(
        query,
        key,
        value if values else None,
        mask=sightline.causal(),
        bias=sightline.alibi(torch.rand(4, generator=generator)),
        softcap=1.5,
        sinks=torch.randn(4, generator=generator),
    )


def test_steps_of_a_grouped_head_with_a_sink():
    matrix = make()
    problem, weights = matrix.problem, matrix.dense()[0].double()
    told = stages(matrix, 3, 25, 6)
    assert told["stages"] == ["scores", "scaled", "capped", "biased", "masked"]
    assert told["softcap"] == 1.5 and told["visible"] == 26 and told["rest"]["keys"] == 20
    assert [each["key"] for each in told["keys"]] == weights[3, 25].topk(6).indices.tolist()
    for each in told["keys"]:
        j = each["key"]
        assert each["vector"] == pytest.approx(problem.key[0, 1, j].tolist())  # heads 2 and 3 share it
        assert each["value"] == pytest.approx(problem.value[0, 1, j].tolist())
        assert each["capped"] == pytest.approx(
            1.5 * torch.tensor(each["scaled"] / 1.5).tanh().item(), rel=1e-4
        )
        assert each["weight"] == pytest.approx(float(weights[3, 25, j]), rel=1e-4)
    total = told["sink"] + told["rest"]["weight"] + sum(each["weight"] for each in told["keys"])
    assert told["sink"] > 0.001 and total == pytest.approx(1, abs=1e-5)
    for each in told["heads"]:
        expected = weights[each["head"], 25] @ problem.value[0, each["head"] // 2].double()
        assert each["context"] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-6)
    assert told["context"] == told["heads"][3]["context"]


def test_steps_without_values():
    told = stages(make(values=False), 1, 5, 20)
    assert len(told["keys"]) == 6 and all(each["value"] is None for each in told["keys"])
    assert told["context"] is None and [each["context"] for each in told["heads"]] == [None] * 4


def test_rollout_is_the_measure():
    layers = [make(), make().to(torch.float64)]
    every = measure.rollout(layers, list(range(40)))[0].double()
    to = rollout(layers, "to", 30, 33, Cancel()).double()
    torch.testing.assert_close(to, every[30:33].mean(0), atol=1e-6, rtol=1e-4)
    back = rollout(layers, "from", 3, 5, Cancel()).double()
    torch.testing.assert_close(back, every[:, 3:5].sum(1), atol=1e-6, rtol=1e-4)


def graded(layers):
    """A section whose layers have a gradient at every context."""
    generator = torch.Generator().manual_seed(5)
    gradients = tuple(torch.randn(1, 4, 40, 8, generator=generator) for _ in layers)
    tokens = tokens_of_places(40)
    return Section("decoder", tokens, tokens, tuple(layers), True, True, (), gradients)


def test_relevance_is_the_measure():
    section = graded([make(), make().to(torch.float64)])
    every = measure.relevance(list(zip(section.layers, section.gradients, strict=True)), list(range(40)))[0]
    to = relevance(section, "to", 30, 33, Cancel())
    torch.testing.assert_close(to, every[30:33].mean(0).float(), atol=1e-5, rtol=1e-5)
    back = relevance(section, "from", 3, 5, Cancel())
    torch.testing.assert_close(back, every[:, 3:5].sum(1).float(), atol=1e-5, rtol=1e-5)


class AtThird(Cancel):
    """Stops at the third look."""

    looks = 0

    def check(self):
        self.looks += 1
        if self.looks == 3:
            self.set()
        super().check()


def test_flows_stop_on_their_way(monkeypatch):
    cancel = AtThird()
    with pytest.raises(StoppedError):
        rollout([make()], "to", 0, 1, cancel)
    assert cancel.looks == 3
    monkeypatch.setattr(schedule, "BLOCK_ENTRIES", 4 * 40 * 10)  # ten rows of four heads
    cancel = AtThird()
    with pytest.raises(StoppedError):
        relevance(graded([make()]), "to", 0, 40, cancel)
    assert cancel.looks == 3

"""Alarms: they go off when entropy collapses or logits explode, and not otherwise."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch

import sightline
from sightline.monitoring import Alarm, AttentionWarning, Limits
from sightline.monitoring.alarms import Alarms
from sightline.monitoring.layer_attention import LayerAttention

from .models import Model, batch


def layer(logits: list[float], entropy: list[float], name: str = "h.0") -> LayerAttention:
    return LayerAttention(name, "self", entropy, entropy, logits, entropy, entropy, [])


def alarms_of(steps: list[LayerAttention], limits: Limits | None = None) -> list[Alarm]:
    """What is reported, with one warning each."""
    reported: list[Alarm] = []
    alarms = Alarms(limits or Limits(), reported.append)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, one in enumerate(steps):
            alarms.check(step, [one])
    assert [str(warning.message) for warning in caught] == [str(alarm) for alarm in reported]
    assert all(warning.category is AttentionWarning for warning in caught)
    return reported


def test_a_healthy_model_is_quiet() -> None:
    model = Model()
    with sightline.monitor(model, 1):  # warnings are errors here
        for _ in range(8):
            model(batch())


def test_an_explosion_in_a_real_model() -> None:
    model = Model()
    seen: list[Alarm] = []
    with sightline.monitor(model, 1, on_alarm=seen.append):
        model(batch())
        with torch.no_grad():  # head 2 of layer 1
            model.layers[1].qkv.weight[8:12] *= 300
        with pytest.warns(
            AttentionWarning, match=r"step 1: exploding logits in layers\.1 \(self\), head 2: "
        ) as warned:
            model(batch())
        model(batch())  # no worse: quiet
    assert len(warned) == 1 and "above 100" in str(warned[0].message) and "QK-norm" in str(warned[0].message)
    (alarm,) = seen
    assert (alarm.layer, alarm.heads, alarm.step, alarm.limit) == ("layers.1", (2,), 1, 100)
    assert alarm.value > 100


def test_a_collapse_in_a_real_model() -> None:
    model = Model()
    with sightline.monitor(model, 1, limits=Limits(max_logit=1e9)):
        model(batch())
        model.layers[0].factor = 1e4
        with pytest.warns(
            AttentionWarning, match=r"step 1: entropy collapse in layers\.0 \(self\), heads 0, 1, 2, 3"
        ) as warned:
            model(batch())
    assert "below 0.05" in str(warned[0].message)


def test_scores_that_are_not_finite() -> None:
    model = Model(1)
    with sightline.monitor(model, 1) as monitor:
        with torch.no_grad():
            model.layers[0].qkv.weight[0, 0] = math.nan
        with pytest.warns(AttentionWarning, match=r"layers\.0 \(self\), head 0: scores are not finite"):
            model(batch())
        assert math.isnan(monitor.last[0].max_logit[0]) and math.isfinite(monitor.last[0].max_logit[1])
        model(batch())  # it cannot get worse


def test_a_single_sharp_head_has_not_collapsed() -> None:
    assert alarms_of([layer([1.0] * 4, [0.01, 0.5, 0.5, 0.5])]) == []
    (alarm,) = alarms_of([layer([1.0] * 4, [0.01, 0.02, 0.5, math.nan])])
    assert (alarm.heads, alarm.value, alarm.limit) == ((0, 1), 0.01, 0.05)
    assert alarms_of([layer([1.0], [math.nan])]) == []


def test_growth_against_the_running_median() -> None:
    calm = [layer([10.0 + step % 2, 2.0], [0.5, 0.5]) for step in range(8)]
    assert alarms_of([*calm, layer([26.0, 2.0], [0.5, 0.5])]) == []
    (alarm,) = alarms_of([*calm, layer([40.0, 2.0], [0.5, 0.5])])
    assert (alarm.kind, alarm.heads, alarm.step, alarm.value, alarm.limit) == (
        "growing logits",
        (0,),
        8,
        40.0,
        31.5,
    )
    assert alarms_of([*calm[:4], layer([40.0, 2.0], [0.5, 0.5])]) == [], "too short a past"
    small = [layer([0.1], [0.5])] * 8
    assert alarms_of([*small, layer([5.0], [0.5])]) == [], "small logits may grow"
    assert alarms_of([*calm, layer([60.0], [0.5])], Limits(growth=10)) == []


def test_no_flood() -> None:
    """Again only when ten times as bad as at the last warning; each layer by itself."""
    values = [101.0, 500, 90, 130, 1011, 3000, 20000, math.nan, math.nan]
    alarms = alarms_of([layer([value], [0.5]) for value in values])
    assert [alarm.step for alarm in alarms] == [0, 4, 6, 7]
    alarms = alarms_of([layer([1.0], [value]) for value in (0.04, 0.03, 0.003, 0.5, 0.001, 0.0, 1e-9)])
    assert [alarm.step for alarm in alarms] == [0, 2, 5]
    both = alarms_of([layer([200.0], [0.5], "h.0"), layer([200.0], [0.5], "h.1")])
    assert [alarm.layer for alarm in both] == ["h.0", "h.1"]


def test_an_alarm_may_end_the_training() -> None:
    class StopTrainingError(Exception):
        pass

    def stop(alarm: Alarm) -> None:
        raise StopTrainingError(alarm.kind)

    model = Model(1)
    model.layers[0].factor = 1e6
    with sightline.monitor(model, 1, on_alarm=stop), warnings.catch_warnings():
        warnings.simplefilter("ignore", AttentionWarning)
        with pytest.raises(StopTrainingError, match="exploding logits"):
            model(batch())


@pytest.mark.parametrize(
    "changes", [{"max_logit": 0}, {"entropy": math.nan}, {"sink": "a"}, {"growth": True}]
)
def test_bad_limits(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"limits.{next(iter(changes))}: must be "):
        Limits(**changes)

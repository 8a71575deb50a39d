"""Sums that are exact, tallies that add up, quantiles within a bin."""

from __future__ import annotations

import json
import math
import random
import statistics
from fractions import Fraction

import pytest
import torch

from sightline.profiling.bins import BINS, LOGITS, POSITIONS, SHARE, quantile
from sightline.profiling.exact import ExactSums
from sightline.profiling.tally import CallKey, MeasureKey, Tally

CALL = CallKey(0, "layer", "self", 0)


def floats(count, seed=0):
    """float32 numbers of every size and sign, as float64, some of them 0 or subnormal."""
    draw = random.Random(seed)
    sizes = [draw.uniform(-1, 1) * 2.0 ** draw.randint(-160, 127) for _ in range(count)] + [
        0.0,
        2.0**-149,
        -(2.0**-149),
    ]
    return torch.tensor(sizes, dtype=torch.float64).float().double()


def exact(values):
    return sum((Fraction(value) for value in values.tolist()), Fraction(0))


@pytest.mark.parametrize("square", [False, True])
def test_sums_are_exact_in_any_order(square):
    values = floats(500)
    values = values.square() if square else values
    one, other = ExactSums(2), ExactSums(2)
    one.add(torch.stack((values, -values), 1), torch.tensor([0, 1]))
    for value in values.flip(0):
        other.add(torch.stack((value, -value))[None], torch.tensor([0, 1]))
    assert one.fractions() == [exact(values), -exact(values)] == other.fractions()
    assert one.wholes() == other.wholes()


def test_sums_of_sums():
    values = floats(100)
    parts = [ExactSums(1) for _ in range(3)]
    for k, part in enumerate(parts):
        part.add(values[k::3, None], torch.tensor([0]))
    whole = ExactSums(1)
    for part in parts:
        whole.add_wholes(part.wholes(), [0])
    assert whole.fractions() == [exact(values)]
    with pytest.raises(ValueError, match="out of range"):
        whole.add_wholes([1 << 800], [0])


def test_a_tally_is_right_and_does_not_depend_on_order_or_parts():
    values = torch.rand(200, 3, dtype=torch.float64)
    values[17, 1] = math.nan
    values[:, 2] = math.inf
    key = MeasureKey(CALL, "sink_mass")
    whole, back, merged = Tally(), Tally(), Tally()
    whole.add({key: values})
    for row in values.flip(0):
        back.add({key: row[None]})
    for part in (values[:50], values[50:]):
        tally = Tally()
        tally.add({key: part})
        merged.add_json(json.loads(json.dumps(tally.to_json())))
    assert whole.to_json() == back.to_json() == merged.to_json()
    first, second, third = whole.summed()[key]
    rounded = values.float().double()
    assert first.count == 200 and second.count == 199 and third.count == 0
    assert first.mean == float(exact(rounded[:, 0]) / 200)
    assert first.std == pytest.approx(statistics.stdev(rounded[:, 0].tolist()), rel=1e-14)
    assert first.min == rounded[:, 0].min() and first.max == rounded[:, 0].max()
    assert first.median == pytest.approx(float(rounded[:, 0].median()), abs=1 / BINS)
    assert math.isnan(third.mean) and math.isnan(third.median)


@pytest.mark.parametrize(
    "scale, draw",
    [(SHARE, lambda u: u**3), (LOGITS, lambda u: 40 * u - 20), (POSITIONS, lambda u: 1000 * u**4)],
)
def test_quantiles_are_right_to_a_bin(scale, draw):
    values = [draw(torch.rand(()).item()) for _ in range(1000)]
    tally = Tally()
    name = {SHARE: "sink_mass", LOGITS: "max_logit", POSITIONS: "attention_distance"}[scale]
    tally.add({MeasureKey(CALL, name): torch.tensor(values)[:, None]})
    figures = tally.summed()[MeasureKey(CALL, name)][0]
    for share, value in ((0.1, figures.p10), (0.5, figures.median), (0.9, figures.p90)):
        right = sorted(values)[int(1000 * share)]
        place = next(k for k in range(BINS) if right < scale.edge(k + 1) or k == BINS - 1)
        assert abs(value - right) <= scale.edge(place + 1) - scale.edge(place)


def test_one_number_is_its_own_quantile():
    counts = [0] * BINS
    counts[5] = 1
    assert quantile(counts, 0.5, SHARE, 0.043, 0.043) == 0.043

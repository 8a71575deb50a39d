"""The core compiled for every system, and run where something here runs its programs."""

from __future__ import annotations

import pytest

from platforms import zig
from platforms.checking import check
from platforms.target import TARGETS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.zig)
def test_every_system(target):
    lacking = zig.lacking()
    if lacking is not None:
        pytest.skip(lacking)
    outcomes = list(check(target, zig.build_core(target), zig.build_check(target)))
    for outcome in outcomes:
        if outcome.lacking is None:
            assert outcome.well, "\n".join([outcome.run.title, *outcome.lines])
    if outcomes and all(outcome.lacking for outcome in outcomes):
        pytest.skip("; ".join(f"{outcome.run.title}: {outcome.lacking}" for outcome in outcomes))

"""The plan of a call: what the native core says it will do."""

import pytest
import torch

from sightline.backends.native.plan import Schedule, schedule_of
from sightline.core import library
from sightline.lowering import lower

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")


def plan_of(b, h, g, n, m, d, **options):
    return schedule_of(lower(torch.zeros(b, h, n, d), *torch.zeros(2, b, g, m, d), **options))


def test_plan_of_blocks(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", "generic")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = plan_of(1, 2, 2, 130, 200, 16)
        assert found == Schedule("generic", "blocks", workers=1, parts=6, products="float32")
        torch.set_num_threads(2)
        assert plan_of(1, 2, 2, 2048, 2048, 64).workers == 2
    finally:
        torch.set_num_threads(before)


def test_plan_without_rows():
    assert plan_of(1, 2, 2, 0, 7, 4).parts == 0
    assert plan_of(0, 2, 2, 3, 7, 4).parts == 0


def test_plan_without_values():
    problem = lower(torch.zeros(1, 1, 70, 4), torch.zeros(1, 1, 9, 4), None)
    assert schedule_of(problem).parts == 2

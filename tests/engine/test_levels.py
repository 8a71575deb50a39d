"""Which instructions a machine runs, and what those of AMX ask of masks: keys are taken 32 at a time."""

import sys
from pathlib import Path

import pytest
import torch

import sightline
from cases import Case, close
from sightline.backends.native.plan import schedule_of
from sightline.core import library
from sightline.lowering.assemble import lower

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")

LEVELS = library.levels() if library.available() is None else []
PRODUCTS = {"avx512_bf16": "bfloat16 pairs", "amx_bf16": "bfloat16 tiles"}


@pytest.mark.parametrize("level", LEVELS)
def test_the_plan_says_what_is_multiplied(level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    query = torch.zeros(1, 2, 64, 8)
    assert schedule_of(lower(query, query, query)).products == "float32"
    half = query.bfloat16()
    assert schedule_of(lower(half, half, half)).products == PRODUCTS.get(level, "float32")


def test_pairs_are_left_out_where_they_are_slower_than_floats(monkeypatch):
    """Intel's processors take four times as long for a dot product of pairs as for a multiply-add."""
    monkeypatch.delenv("SIGHTLINE_ISA", raising=False)
    best = library.built_levels()[library.level()]
    cpuinfo = Path("/proc/cpuinfo")
    if sys.platform != "linux" or "GenuineIntel" not in cpuinfo.read_text(encoding="utf-8"):
        assert best == LEVELS[-1]
    else:
        assert best == [level for level in LEVELS if level != "avx512_bf16"][-1]


def stretches(n: int) -> torch.Tensor:
    """Rows of short stretches of keys, with gaps that are shorter and longer than what is taken at a time."""
    seen = torch.zeros(n, n, dtype=torch.bool)
    for row in range(n):
        for first in range(row % 7, n, 19 + row % 5 * 40):
            seen[row, first : first + 1 + row % 17] = True
    return seen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [31, 97, 330])
def test_stretches_of_keys_that_lie_close_together(level, n, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    query, key, value = (torch.randn(1, 2, n, 24).bfloat16() for _ in range(3))
    masks = [
        sightline.prefix(10) | sightline.window(3, 0),  # the two meet within 32 keys, or lie farther apart
        sightline.prefix(33) | sightline.window(1, 0),
        sightline.documents(torch.arange(n) // 21),
        stretches(n),
        stretches(n).T.contiguous() | torch.eye(n, dtype=torch.bool),
    ]
    for mask in masks:
        case = Case(query, key, value, {"mask": mask})
        leaves = [x.clone().requires_grad_() for x in (query, key, value)]
        context = sightline.attention(*leaves, mask=mask)
        close(context, case.reference().context, 2e-2)
        upstream = torch.randn(context.shape).bfloat16()
        exact = [x.double().requires_grad_() for x in (query, key, value)]
        wanted = torch.autograd.grad(sightline.attention(*exact, mask=mask), exact, upstream.double())
        for found, right in zip(torch.autograd.grad(context, leaves, upstream), wanted, strict=True):
            assert (found.double() - right).norm() <= 0.02 * right.norm()

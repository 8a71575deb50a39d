"""How the plain backend would run a problem."""

from __future__ import annotations

import torch

from sightline.backends.contract import Pass, Plan
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.schedule import schedule


def plan(problem: Problem) -> Plan:
    """Both passes alike: blocks of full rows, by PyTorch's own operators."""
    arithmetic = str(compute_dtype(problem)).removeprefix("torch.")
    both = Pass("chunked", "rows", None, torch.get_num_threads(), arithmetic)
    return Plan(both, both, _computed(problem))


def _computed(problem: Problem) -> float:
    """The share of the matrix that stands in a block."""
    b, h, n, m = problem.shape
    if 0 in (b, h, n, m):
        return 0.0
    entries: int = sum(
        len(range(b)[batch]) * len(range(n)[rows]) * max(0, cols.stop - cols.start)
        for batch, rows, cols in schedule(problem)
    )
    return entries / (b * n * m)

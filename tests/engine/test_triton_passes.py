"""What the Triton backend launches and gives: shapes, dtypes and devices under fake tensors on CUDA, no kernel run."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, nullcontext
from unittest import mock

import pytest
import torch

from fake_cuda import fake_cuda
from sightline.backends.contract import FUNCTIONS, PooledRegion, Request, Summand
from sightline.backends.problem import Problem
from sightline.backends.triton import given, launching, passes

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
B, H, N, M, F = 2, 4, 70, 130, 3
KERNELS = ("row_pass", "row_product", "column_pass", "cell_pass")


class Launched:
    """Stands in for a kernel: counts launches, and holds that every grid has programs for all that is given."""

    def __init__(self, name, counts, device):
        self.name, self.counts, self.device = name, counts, device

    def __getitem__(self, grid):
        assert 0 < grid[0] < 1 << 31 and all(0 < one <= 65535 for one in grid[1:])
        assert grid[1] == B * H

        def launch(**arguments):
            assert _current == [self.device]
            self.counts[self.name] += 1
            tensors = [one for one in arguments.values() if isinstance(one, torch.Tensor)]
            assert {one.device for one in tensors} == {self.device}
            if self.name in ("row_pass", "row_product"):
                assert (grid[0] - 1) * arguments["BLOCK_N"] < N <= grid[0] * arguments["BLOCK_N"]
            if self.name == "column_pass":
                assert (grid[0] - 1) * arguments["BLOCK_M"] < M <= grid[0] * arguments["BLOCK_M"]

        return launch


#: The card that is the current one.
_current = []


@contextmanager
def current(device):
    _current.append(device)
    yield
    _current.pop()


@contextmanager
def launches(capability=9, device=CUDA):
    """Counts by kernel's name, within a card that is not there."""
    counts = Counter()
    kernels = {name: Launched(name, counts, device) for name in KERNELS}
    with (
        mock.patch.object(given, "generation", return_value=capability),
        mock.patch.object(launching, "current", current),
        mock.patch.object(passes, "settled", lambda problem, lse: lse),  # looks at numbers
        mock.patch.multiple(passes, **kernels),
        fake_cuda(),
    ):
        yield counts


def problem_and_lse(dtype, device=CUDA):
    query = torch.empty(B, H, N, 64, dtype=dtype, device=device)
    key = torch.empty(B, H // 2, M, 64, dtype=dtype, device=device)
    return Problem(query, key, None, 0.125), torch.empty(B, H, N, dtype=torch.float64, device=device)


def like(tensor, shape, dtype=torch.float32, device=CUDA):
    assert (tensor.shape, tensor.dtype, tensor.device) == (shape, dtype, device)


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16], ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("capability", [8, 9, 10])
def test_readouts_of_rows_are_one_launch(dtype, capability):
    names = ("entropy", "max", "max_score", "distance")
    with launches(capability) as counts:
        problem, lse = problem_and_lse(dtype)
        found = passes.readouts(problem, lse, [*map(Request, names), Request("received")])
        for name in ("entropy", "max_score", "distance"):
            like(found[name], (B, H, N))
        like(found["max"].values, (B, H, N))
        like(found["max"].indices, (B, H, N), torch.int64)
        like(found["received"], (B, H, M))
    assert counts == {"row_pass": 1, "column_pass": 1}


def test_the_largest_join_the_launch(dtype):
    """On the CPU: PyTorch that was built without CUDA cannot say what sorting gives there."""
    with launches(device=CPU) as counts:
        problem, lse = problem_and_lse(dtype, device=CPU)
        found = passes.readouts(problem, lse, [Request("entropy"), Request("topk", k=5)])
        like(found["topk"].values, (B, H, N, 5), device=CPU)
        like(found["topk"].indices, (B, H, N, 5), torch.int64, CPU)
    assert counts == {"row_pass": 1}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sums(dtype, function):
    with launches() as counts:
        problem, lse = problem_and_lse(dtype)
        like(passes.summed(problem, lse, Summand(function), "keys"), (B, H, N))
        like(passes.summed(problem, lse, Summand(function), "queries"), (B, H, M))
    assert counts == {"row_pass": 1, "column_pass": 1}


def test_products_and_the_largest_of_each_key(dtype):
    with launches() as counts:
        problem, lse = problem_and_lse(dtype)
        like(passes.product(problem, lse, torch.empty(1, H, M, F, dtype=dtype, device=CUDA)), (B, H, N, F))
        like(
            passes.transposed_product(problem, lse, torch.empty(B, 1, N, F, dtype=dtype, device=CUDA)),
            (B, H, M, F),
        )
        like(passes.key_largest(problem, lse), (B, H, M))
    assert counts == {"row_product": 1, "column_pass": 2}


@pytest.mark.parametrize("samples", [None, 1, B], ids=["[M]", "[1,M]", "[B,M]"])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_masses_of_segments(dtype, samples, count):
    """How many segments there are is a number of the tensor, which nobody has here: it is told."""
    shape = (M,) if samples is None else (samples, M)
    with launches() as counts, mock.patch.object(torch.Tensor, "max", return_value=count - 1):
        problem, lse = problem_and_lse(dtype)
        segments = torch.empty(shape, dtype=torch.int64, device=CUDA)
        found = passes.readouts(problem, lse, [Request("mass", segments=segments), Request("entropy")])
        like(found["mass"], (B, H, N, count))
        like(found["entropy"], (B, H, N))
    assert counts == {"row_product": 1, "row_pass": 1}


def test_another_card_than_the_current_one(dtype):
    """Triton starts a kernel on the current card, whose tensors lie on another."""
    other = torch.device("cuda", 1)
    with launches(device=other) as counts:
        problem, lse = problem_and_lse(dtype, other)
        passes.readouts(problem, lse, [Request("entropy"), Request("received")])
        passes.pool(problem, lse, PooledRegion(slice(0, N), slice(3, M), 5, 7, "sum"))
        passes.product(problem, lse, torch.empty(1, H, M, F, dtype=dtype, device=other))
    assert counts == {"row_pass": 1, "column_pass": 1, "cell_pass": 1, "row_product": 1}


def test_the_card_is_made_the_current_one():
    with mock.patch.object(torch.cuda, "device", return_value=nullcontext()) as chosen:
        launching.current(CUDA)
        launching.current(CPU)
    chosen.assert_called_once_with(CUDA)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
@pytest.mark.parametrize("capability", [8, 9, 10])
def test_pictures(dtype, reduce, capability):
    with launches(capability) as counts:
        problem, lse = problem_and_lse(dtype)
        like(passes.pool(problem, lse, PooledRegion(slice(0, N), slice(3, M), 5, 7, reduce)), (B, H, 5, 7))
    assert counts == {"cell_pass": 1}


def test_the_lse_is_in_double(dtype):
    with launches() as counts:
        like(passes.row_lse(problem_and_lse(dtype)[0]), (B, H, N), torch.float64)
    assert counts == {"row_pass": 1}

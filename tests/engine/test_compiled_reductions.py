"""Reductions by compiled code, without a GPU: what is compiled and why, how often, and that it gives the same.

Here the compiler writes C++ for the CPU; what it writes for a card runs on none here.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import partial

import pytest
import torch

import sightline
from cases import close
from fake_cuda import fake_cuda
from pretend_gpu import CUDA, pretend_gpu
from sightline.backends.problem import Problem
from sightline.backends.schedule import Numbered
from sightline.backends.softmax import RowSums
from sightline.matrix import block_reductions, compiled, reduction_pass

B, G, H, N, M = 2, 2, 4, 70, 90


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cubed(w, s, i, j):
    return w**3 * (i - j)


class Compiler:
    """Counts the graphs that PyTorch compiles; each is run as it is."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _nothing_is_known():
    yield
    compiled.forget()
    compiled.compiled.cache_clear()
    torch._dynamo.reset()


def here(monkeypatch, backend):
    """On the CPU as on a GPU, from the first pair on."""
    compiled.forget()
    compiled.compiled.cache_clear()
    monkeypatch.setattr(compiled, "DEVICES", ("cpu", "cuda"))
    monkeypatch.setattr(compiled, "WORTH", 0)
    monkeypatch.setattr(compiled, "_BACKEND", backend)
    monkeypatch.setattr("sightline.common.triton.missing", lambda: None)
    return backend


@pytest.fixture
def compiler(monkeypatch):
    return here(monkeypatch, Compiler())


@pytest.fixture
def no_plain(monkeypatch):
    """What is not compiled fails."""

    def plain(*given):
        raise AssertionError("plain PyTorch")

    monkeypatch.setattr(reduction_pass.Pass, "_plain", plain)


# --- what is compiled -------------------------------------------------------------------------------------

MANY = 1 << 32
CHOSEN = [
    # (device, pairs, triton, dropped, listening) -> what explain says behind "no kernel knows this function"
    ("cpu", MANY, None, None, False, "plain PyTorch", ""),
    ("cuda", MANY, None, None, False, "plain PyTorch, compiled", ""),
    ("cuda", MANY - 1, None, None, False, "plain PyTorch", ", and it is compiled once it was asked for 4,294,967,296 pairs"),
    ("cuda", MANY, "Triton is not installed", None, False, "plain PyTorch", ", and it is not compiled: Triton is not installed"),
    ("cuda", MANY, None, "InductorError: no compiler", False, "plain PyTorch", ", and it could not be compiled: InductorError: no compiler"),
    ("cuda", MANY, None, None, True, "plain PyTorch", ", and it is not compiled where a mode, a transform or a profiler listens"),
]  # fmt: skip


@pytest.mark.parametrize("device, pairs, triton, fault, listening, how, told", CHOSEN)
def test_the_choice_and_its_reason(monkeypatch, device, pairs, triton, fault, listening, how, told):
    compiled.forget()
    monkeypatch.setattr("sightline.common.triton.missing", lambda: triton)
    if fault is not None:
        compiled._dropped[compiled._kind(cubed)] = fault
    own = H * B * N * M
    with pretend_gpu(), torch.autograd.profiler.profile() if listening else warnings.catch_warnings():
        compiled.asked_for([cubed], pairs - own)
        A = sightline.AttentionMatrix(random(B, H, N, 8).to(device), random(B, G, M, 8).to(device))
        assert A.explain(reduce=cubed)["reduce"] == f"{how}: no kernel knows this function{told}"
        assert A.explain(reduce=lambda w, s, i, j: w**2)["reduce"].find("compiled") == -1


def test_pairs_are_counted_by_where_a_function_is_written(monkeypatch):
    """One that is made anew in every call, and with other numbers, is the same."""
    compiled.forget()

    def above(t):
        return lambda w, s, i, j: w.clamp(min=t)

    A = sightline.AttentionMatrix(random(1, 2, 5, 4), random(1, 2, 7, 4))
    for t in (0.1, 0.2, 0.3):
        A.reduce(above(t))
    assert [*compiled._pairs.values()] == [3 * 70]
    A.reduce(partial(lambda t, w, s, i, j: w.clamp(min=t), 0.5))
    assert [*compiled._pairs.values()] == [3 * 70, 70]


@pytest.mark.parametrize("over", ["keys", ("heads", "queries")])
@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_on_a_gpu_it_is_asked_and_gives_the_same(monkeypatch, over, op):
    """On the pretended one, where what is to be compiled runs as it is."""
    calls = []

    def as_it_is(functions, block, *how):
        assert block.problem.query.device == CUDA and block.place.keys.device == CUDA
        calls.append(how)
        return block_reductions.reductions(functions, block, *how)

    compiled.forget()
    monkeypatch.setattr("sightline.common.triton.missing", lambda: None)
    monkeypatch.setattr(compiled, "compiled", lambda: as_it_is)
    monkeypatch.setattr(compiled, "WORTH", 0)
    q, k, x = random(B, H, N, 8), random(B, G, M, 8, seed=1), random(M, seed=2)

    def function(w, s, i, j, x):
        return w * s * x + (i > j)

    asked = {"over": over, "op": op}
    mask = sightline.causal()
    wanted = sightline.AttentionMatrix(q, k, mask=mask).reduce(function, extra=(x,), **asked)
    assert not calls
    with pretend_gpu() as cuda:
        A = sightline.AttentionMatrix(q.to(cuda), k.to(cuda), mask=mask)
        found = A.reduce(function, extra=(x.to(cuda),), **asked)
        assert found.device == CUDA
        close(found.cpu(), wanted, 1e-6)
        A.reduce(lambda w, s, i, j: w**2)  # which kernels know
    assert calls == [("keys" if over == "keys" else "queries", op)]


def test_a_matrix_that_is_differentiated_is_not_compiled(compiler):
    A = sightline.AttentionMatrix(random(1, 2, 5, 4).requires_grad_(), random(1, 2, 7, 4), detach=False)
    A.reduce(cubed).sum().backward()
    assert compiler.graphs == 0
    assert A.explain(reduce=cubed)["reduce"] == "plain PyTorch: gradients are wanted"


# --- that it gives the same -------------------------------------------------------------------------------

DENSE = torch.rand(B, H, N, M, generator=torch.Generator().manual_seed(3)) < 0.6
OPTIONS = {
    "none": {},
    "causal": {"mask": sightline.causal()},
    "causal, top left": {"mask": sightline.causal("top-left")},
    "rows that see nothing": {"mask": sightline.causal(align=-5)},
    "lengths": {"mask": sightline.lengths(torch.tensor([M, 6]))},
    "a union": {"mask": sightline.prefix(3) | sightline.window(20, 0)},
    "a range of each head": {"mask": sightline.ranges(random(B, H, N).abs().long() * 9, random(B, H, N).abs().long() * 9 + 30)},
    "dense": {"mask": DENSE},
    "dense and ranges": {"mask": sightline.dense(DENSE[:, :1, :1]) & sightline.causal()},
    "bias": {"bias": random(B, H, N, M)},
    "bias that hides": {"bias": random(1, 1, N, M).masked_fill(~DENSE[:1, :1], -math.inf)},
    "alibi": {"bias": sightline.alibi(random(H).abs()), "mask": sightline.causal()},
    "alibi of each entry": {"bias": sightline.alibi(random(B, H).abs(), torch.tensor([2, -3]))},
    "a table": {"bias": sightline.relative(random(H, 9))},
    "a table that hides": {"bias": sightline.relative(random(1, 9).masked_fill(torch.arange(9) == 3, -math.inf))},
    "softcap": {"softcap": 0.7, "scale": 0.9},
    "sinks": {"sinks": torch.tensor([0.5, -1.0, 4.0, -math.inf])},
    "far from 0": {"scale": 300.0},
    "all": {
        "mask": sightline.prefix(2) | sightline.window(30, 0), "softcap": 2.0, "sinks": random(H),
        "bias": sightline.alibi(random(H).abs()), "scale": 0.5,
    },
}  # fmt: skip
FUNCTIONS = [
    cubed,
    lambda w, s, i, j: torch.tanh(s) * w,
    lambda w, s, i, j: (w > 0.037) & (i >= j),
    lambda w, s, i, j: w.exp() if w.dtype == torch.float32 else w,
]


def some(chosen):
    """One of the options always, the others where there is time."""
    return [chosen, *(pytest.param(one, marks=pytest.mark.slow) for one in OPTIONS if one != chosen)]


def matrix(options, dtype=torch.float32, n=N, m=M, b=B):
    query, key = random(b, H, n, 16, seed=1).to(dtype), random(b, G, m, 16, seed=2).to(dtype)
    return sightline.AttentionMatrix(query, key, **options)


def both(A, op, over, functions=FUNCTIONS, extra=()):
    """By what is compiled, and as it is written: blocks of no more than a few rows."""
    problem = (functions, over, op, extra)
    return (reduction_pass.Pass(A, *problem).run_compiled(), reduction_pass.Pass(A, *problem).run())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_compiled_is_what_is_written(monkeypatch, no_plain_fallback, name, dtype):
    """Uncompiled: the function of tensors alone gives what blocks give."""
    monkeypatch.setattr(compiled, "computed", block_reductions.reductions)
    monkeypatch.setattr(compiled, "BLOCK_ENTRIES", B * H * M * 33)
    A = matrix(OPTIONS[name], dtype)
    for op in ("sum", "max", "min"):
        for over in ("keys", "queries"):
            for found, wanted in zip(*both(A, op, over), strict=True):
                assert found.dtype == wanted.dtype
                close(found, wanted, 1e-6)


@pytest.fixture
def no_plain_fallback(monkeypatch):
    def drop(functions, error):
        raise error

    monkeypatch.setattr(compiled, "drop", drop)


@pytest.mark.parametrize("name", some("all"))
def test_one_graph(compiler, no_plain_fallback, name):
    """PyTorch traces all of it, without a break, and once for several calls."""
    A = matrix(OPTIONS[name])
    for _ in range(2):
        for found, wanted in zip(*both(A, "sum", "queries"), strict=True):
            close(found, wanted, 1e-6)
        assert compiler.graphs == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_by_inductor(monkeypatch, no_plain_fallback, name):
    """Compiled, for the CPU: against plain PyTorch in float64."""
    here(monkeypatch, "inductor")
    A, wide = matrix(OPTIONS[name]), matrix(OPTIONS[name], torch.float64)
    functions = FUNCTIONS[:1]
    found = A.reduce(functions, over="queries")
    for one, wanted in zip(found, wide.reduce(functions, over="queries"), strict=True):
        close(one, wanted, 1e-3 if name == "far from 0" else 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("op", ["max", "min"])
def test_extremes_by_inductor(monkeypatch, no_plain_fallback, op):
    here(monkeypatch, "inductor")
    A = matrix(OPTIONS["all"])
    x = random(M, seed=7)

    def function(w, s, i, j, x):
        return w * x + torch.where(i == j, s, 0)

    assert compiled.why_not(function, A.device, 1) is None
    for over in ("keys", "queries"):
        found, wanted = both(A, op, over, [function], (x.view(1, 1, 1, M),))
        close(found[0], wanted[0], 1e-5)


# --- how often --------------------------------------------------------------------------------------------


def test_a_second_length_compiles_at_most_once_more(compiler, no_plain, no_plain_fallback, monkeypatch):
    monkeypatch.setattr(compiled, "BLOCK_ENTRIES", 1 << 17)  # several blocks
    for n, m in ((300, 300), (300, 300), (500, 700), (500, 700), (640, 651), (260, 1000)):
        matrix(OPTIONS["causal"], n=n, m=m, b=1).reduce(cubed)
        assert compiler.graphs <= (1 if n == 300 else 2), (n, m)


def test_a_function_that_is_written_anew_is_not_compiled_anew(compiler, no_plain, no_plain_fallback):
    def below(t):
        return lambda w, s, i, j: torch.relu(t - w)

    A = matrix(OPTIONS["causal"])
    for t in (0.1, 0.2, 0.3, 0.4):
        close(A.reduce(below(t)), torch.relu(t - A.dense()).tril(M - N).sum(-1), 1e-5)
    made = compiler.graphs
    assert made <= 2  # PyTorch 2.6 takes the first number for a constant
    A.reduce(lambda w, s, i, j: torch.relu(0.1 - w) * 2)
    assert compiler.graphs == made + 1


# --- when it fails ----------------------------------------------------------------------------------------


def test_a_compiler_that_fails_is_said_once_and_asked_no_more(monkeypatch):
    def fails(graph, inputs):
        raise RuntimeError("\nNo C compiler was found.\nmore lines")

    here(monkeypatch, fails)
    A = matrix(OPTIONS["causal"])
    plain = reduction_pass.Pass(A, [cubed], "keys", "sum", ()).run()[0]
    with pytest.warns(RuntimeWarning, match="reduce runs in plain PyTorch.*No C compiler was found") as told:
        assert torch.equal(A.reduce(cubed), plain)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(A.reduce(cubed), plain)
        other = A.reduce(lambda w, s, i, j: w**3 * (i - j) * 2)
    close(other, 2 * plain, 1e-6)
    why = A.explain(reduce=lambda w, s, i, j: w**5)["reduce"]
    assert re.search("it could not be compiled: RuntimeError: No C compiler", why), why


def test_a_function_that_cannot_be_traced_is_computed_as_it_is_written(compiler):
    seen = []

    def looking(w, s, i, j):
        seen.append(float(w.sum()))
        return w if w.sum().item() > -1 else s

    A = matrix(OPTIONS["none"])
    with pytest.warns(RuntimeWarning, match="its function could not be compiled: "):
        close(A.reduce(looking), torch.ones(B, H, N), 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        A.reduce(looking)
        A.reduce(cubed)  # others are compiled still
    assert seen and compiler.graphs == 1


def test_a_function_that_is_wrong_is_told_so(compiler):
    """As it would be uncompiled, and nothing is held against the compiler."""
    A = matrix(OPTIONS["causal"])
    learned = torch.ones(1, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="gave shape .* elementwise"):
            A.reduce(lambda w, s, i, j: w[..., :3])
        with pytest.raises(TypeError, match="must give a real tensor, got torch.complex64"):
            A.reduce(lambda w, s, i, j: w + 1j)
        with pytest.raises(ValueError, match="Hand it over by extra"):
            A.reduce(lambda w, s, i, j: w * learned)
    assert not compiled._broken and not compiled._dropped


def test_a_full_memory_is_nothing_against_the_compiler(monkeypatch, compiler):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4 GiB.")

    monkeypatch.setattr(compiled, "compiled", lambda: full)
    with pytest.raises(torch.OutOfMemoryError):
        matrix(OPTIONS["none"]).reduce(cubed)
    assert not compiled._broken and not compiled._dropped


# --- shapes on CUDA ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sums", ["own", "two"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("over, shape", [("keys", (2, 4, 33)), ("queries", (2, 4, 70))])
def test_shapes_and_dtypes_on_cuda(over, shape, dtype, sums):
    """Under fake tensors that lie on CUDA: nothing looks at numbers, and nothing is made elsewhere."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    with fake_cuda():
        query = torch.empty(2, 4, 33, 64, dtype=dtype, device=CUDA)
        key = torch.empty(2, 2, 70, 64, dtype=dtype, device=CUDA)
        problem = Problem(
            query, key, None, 0.125, softcap=3.0,
            ranges=torch.empty(2, 1, 33, 2, 2, dtype=torch.int32, device=CUDA),
            bias=torch.empty(1, 1, 33, 70, dtype=dtype, device=CUDA), slopes=torch.empty(1, 4, device=CUDA),
            offset=torch.empty(1, dtype=torch.int64, device=CUDA), sinks=torch.empty(4, device=CUDA),
        )  # fmt: skip
        place = Numbered(*(torch.empty(one, dtype=torch.int64, device=CUDA) for one in ((33, 1), (70,))))
        rows = torch.empty(2, 4, 33, dtype=wide, device=CUDA)
        known = "own" if sums == "own" else RowSums(rows, rows)
        block = block_reductions.Given(problem, place, known, ())
        for op in ("sum", "max", "min"):
            found, _ = block_reductions.reductions(FUNCTIONS[:2], block, over, op)
            assert (found.shape, found.device) == (shape, CUDA)
            double = op == "sum" and over == "queries"
            assert found.dtype == (torch.float64 if double else wide)

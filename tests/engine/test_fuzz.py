"""Everything against everything: instruction sets, backends, dtypes, layouts and thread counts.

One drawn problem is computed at every level of the machine and by the chunked backend, and each result is
held against the float64 definition: context, lse, readouts and every gradient. `make sanitize` runs the same
problems with a core that checks its own memory accesses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import sightline
from cases import LENGTHS, Case, biases, close, laid_out, masks
from sightline import reference
from sightline.core import library

# What float32 sums of inputs of each dtype are held to; results rounded to a half dtype, to its precision.
CONTEXT = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
GRADIENT = {torch.float32: 4e-4, torch.bfloat16: 1.5e-1, torch.float16: 3e-2}
LSE = 1e-5
LEVELS = library.levels() if library.available() is None else []


class Fuzzed(NamedTuple):
    case: Case
    threads: int


@st.composite
def fuzzed(draw: Any) -> Fuzzed:
    """A problem of any dtype, and a number of threads; a third of them decode: few queries, many keys."""
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    decoding = draw(st.integers(0, 2)) == 0
    b, g, group = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 8]))
    n = draw(st.integers(1, 4)) if decoding else draw(LENGTHS)
    m = draw(st.sampled_from([300, 515, 1000])) if decoding else draw(LENGTHS)
    d, e = draw(st.sampled_from([1, 3, 16, 31, 64, 65])), draw(st.sampled_from([1, 5, 16, 33, 64]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = g * group
    tensors = [
        laid_out(draw, generator, shape, dtype) for shape in ((b, h, n, d), (b, g, m, d), (b, g, m, e))
    ]
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["mask"] = draw(masks((b, h, n, m), generator))
    if draw(st.booleans()):
        options["bias"] = draw(biases((b, h, n, m), generator))
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 5.0]))
    if draw(st.booleans()):
        options["sinks"] = torch.randn(h, generator=generator)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([-0.3, 0.0, 1.0]))
    return Fuzzed(Case(*tensors, options), draw(st.sampled_from([1, 2, 3, 5])))


class Wanted(NamedTuple):
    """The float64 definition, with the gradients of a random upstream."""

    stages: reference.Stages
    upstream: Tensor
    gradients: list[Tensor]


def define(case: Case) -> Wanted:
    doubles = [x.double().requires_grad_() for x in (case.query, case.key, case.value)]
    stages = reference.attention(*doubles, **case.options)
    upstream = torch.randn(stages.context.shape).to(case.query.dtype)
    gradients = torch.autograd.grad(stages.context, doubles, upstream.double())
    # Autograd through a softmax over nothing is NaN; here those rows have gradient 0.
    return Wanted(stages, upstream, [torch.nan_to_num(x, nan=0.0) for x in gradients])


def compare(case: Case, wanted: Wanted) -> Tensor:
    dtype = case.query.dtype
    leaves = [x.detach().requires_grad_() for x in (case.query, case.key, case.value)]
    context, A = sightline.attention(*leaves, **case.options, return_matrix=True)
    stages = wanted.stages
    close(context, stages.context, CONTEXT[dtype])
    close(A.lse, stages.lse, LSE)
    weights = stages.weights.detach()
    k = min(weights.shape[-1], 5)
    segments = torch.arange(weights.shape[-1]) // 3
    found = A.readouts("entropy", "received", "max_score", "distance", topk=k, segments=segments)
    close(found.entropy, torch.special.entr(weights).sum(-1), LSE)
    close(found.received, weights.sum(-2), 10 * LSE)
    close(found.max_score, stages.masked.amax(-1), LSE)
    close(found.topk.values, weights.topk(k).values, LSE)
    n, m = weights.shape[-2:]
    steps = (torch.arange(n)[:, None] + m - n - torch.arange(m)).abs()
    close(found.distance, (weights * steps).sum(-1), LSE * max(1.0, float(steps.max())))
    close(found.mass, weights @ torch.nn.functional.one_hot(segments).double(), LSE)
    gradients = torch.autograd.grad(context, leaves, wanted.upstream)
    for gradient, expected in zip(gradients, wanted.gradients, strict=True):
        close(gradient, expected, GRADIENT[dtype] * max(1.0, float(expected.abs().max())))
    return context.detach()


def test_all_levels_and_backends_agree_with_the_definition(torch_threads, monkeypatch):
    @given(drawn=fuzzed())
    def check(drawn: Fuzzed) -> None:
        case, wanted = drawn.case, define(drawn.case)
        torch_threads(drawn.threads)
        for level in LEVELS:
            monkeypatch.setenv("SIGHTLINE_ISA", level)
            with sightline.backend("cpu"):
                context = compare(case, wanted)
                torch_threads(1)
                assert torch.equal(context, case.attention()), "the result depends on the number of threads"
                torch_threads(drawn.threads)
        monkeypatch.delenv("SIGHTLINE_ISA", raising=False)
        with sightline.backend("chunked"):
            compare(case, wanted)

    check()

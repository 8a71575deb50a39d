"""Attention on CUDA by PyTorch's kernels, without a GPU: what is chosen and why, and kernels that stand in.

A stand-in computes, on the CPU, what the kernel's documentation promises; with a fault in it, it shows that
the check of its first answer finds the fault. Nothing here ran on a card.
"""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import sightline
from cases import Case, close
from pretend_gpu import CUDA, pretend_gpu
from sightline.backends import choice, contract
from sightline.backends.cuda import Cuda, kernels, trust
from sightline.backends.cuda.pattern import Pattern, pattern_of
from sightline.backends.plain import Plain
from sightline.backends.problem import Problem, tensors, with_tensors

B, G, H, N, M = 2, 2, 4, 7, 11
HALF = torch.bfloat16


@pytest.fixture(autouse=True)
def _nobody_is_known():
    trust.forget()
    yield
    trust.forget()


def case(dtype=torch.float32, width=8, n=N, m=M, heads=G, **options):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(B, H, n, width, generator=generator).to(dtype)
    key, value = (torch.randn(B, heads, m, width, generator=generator).to(dtype) for _ in range(2))
    return Case(query, key, value, options)


def problem_of(one):
    return one.matrix().problem


# --- patterns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask, n, m, pattern",
    [
        (None, 7, 11, Pattern()),
        (sightline.causal(), 7, 11, Pattern(None, 0)),
        (sightline.causal(), 7, 7, Pattern(None, 0)),
        (sightline.causal("top-left"), 7, 7, Pattern(None, 0)),
        (sightline.causal("top-left"), 7, 11, None),  # SDPA's is_causal, which is not ours
        (sightline.causal(), 11, 7, None),  # the first queries see nothing
        (sightline.window(2, 0), 7, 11, Pattern(2, 0)),
        (sightline.window(2, 1), 7, 11, Pattern(2, 1)),
        (sightline.window(None, 1), 7, 11, Pattern(None, 1)),
        (sightline.window(3, None), 7, 11, Pattern(3, None)),
        (sightline.window(50, 50), 7, 11, Pattern()),
        (sightline.prefix(11), 7, 11, Pattern()),
        (sightline.prefix(4), 7, 11, None),
        (sightline.prefix(8) | sightline.causal(), 7, 11, None),
        (sightline.lengths(torch.tensor([11, 5])), 7, 11, None),
        (sightline.causal(torch.tensor([4, 2])), 7, 11, None),
        (sightline.documents(torch.arange(7) // 3), 7, 7, None),
        (torch.ones(7, 11, dtype=torch.bool), 7, 11, None),
        (sightline.causal(), 1, 11, Pattern()),
    ],
)
def test_ranges_in_the_words_of_kernels(mask, n, m, pattern):
    problem = problem_of(case(n=n, m=m, **({} if mask is None else {"mask": mask})))
    assert pattern_of(problem) == pattern
    if pattern is not None:  # and it says the same
        i, j = torch.arange(n)[:, None] + m - n, torch.arange(m)
        seen = (j >= i - (m + n if pattern.left is None else pattern.left)) & (
            j <= i + (m + n if pattern.right is None else pattern.right)
        )
        visible = problem_of(case(n=n, m=m, mask=seen))
        close(Plain().forward(problem)[0], Plain().forward(visible)[0], 1e-6)


# --- who is chosen ----------------------------------------------------------------------------------------

CHOSEN = [
    # (options, dtype, width) -> backend, kernel, and what explain says where it is plain PyTorch
    ({}, HALF, 64, "flash", None),
    ({"mask": sightline.causal()}, HALF, 64, "flash", None),
    ({"mask": sightline.window(3, 0)}, torch.float16, 128, "flash", None),
    ({"sinks": torch.zeros(H)}, HALF, 256, "flash", None),
    ({}, HALF, 12, "efficient", None),
    ({}, torch.float32, 64, "efficient", None),
    ({"mask": sightline.causal(), "scale": 0.3}, torch.float32, 40, "efficient", None),
    ({"mask": sightline.window(3, 0)}, torch.float32, 64, None, "flash: the dtype is torch.float32.*efficient: the mask is neither full nor causal"),
    ({"mask": sightline.prefix(8) | sightline.causal()}, HALF, 64, None, "flash: the mask is neither full, causal nor a window"),
    ({"mask": torch.ones(N, M, dtype=torch.bool)}, HALF, 64, None, "flash: it knows no dense mask; efficient: it knows no dense"),
    ({"softcap": 5.0}, HALF, 64, None, "flash: it knows no softcap"),
    ({"bias": sightline.alibi(torch.ones(H))}, HALF, 64, None, "flash: it knows no bias"),
    ({"bias": torch.zeros(N, M), "softcap": 3.0}, HALF, 64, None, "flash: it knows no bias and no softcap"),
    ({}, torch.float64, 64, None, "efficient: the dtype is torch.float64"),
    ({}, HALF, 264, "efficient", None),
]  # fmt: skip


@pytest.mark.parametrize("options, dtype, width, kernel, why", CHOSEN)
def test_the_choice_and_its_reason(options, dtype, width, kernel, why):
    with pretend_gpu(kernels=True):
        one = case(dtype, width)
        moved = {name: to_gpu(value) for name, value in options.items()}
        explained = sightline.explain(*(t.to(CUDA) for t in (one.query, one.key, one.value)), **moved)
    if kernel is None:
        assert explained.forward.backend == "chunked"
        (reason, *_) = explained.reasons
        assert reason.startswith("Plain PyTorch instead of PyTorch's CUDA kernels: ")
        assert re.search(why, reason), reason
    else:
        assert (explained.forward.backend, explained.forward.path) == ("cuda", kernel)
        assert f"PyTorch's {kernel} kernel for CUDA" in str(explained)
        assert not [reason for reason in explained.reasons if "instead" in reason]


def to_gpu(value):
    if isinstance(value, torch.Tensor):
        return value.to(CUDA)
    if isinstance(value, type(sightline.alibi(torch.ones(1)))):
        return sightline.alibi(torch.ones(H, device=CUDA))
    return value


def test_readouts_are_for_triton_where_it_is_there(monkeypatch):
    works = ["entropy", "received", "topk", "pool", "product", "transposed_product", "sum", "lse", "mass"]
    with pretend_gpu(kernels=True):
        problem = Problem(
            **{n: t.to(CUDA) for n, t in tensors(problem_of(case(HALF, 64))).items()}, scale=1.0
        )
        for name in works:
            assert choice.choose(problem, contract.Work(name, k=8)).name == "chunked"  # Triton is missing
        assert "Triton is not installed" in str(choice.WINGS[2].why_not(problem, contract.Work("entropy")))
        monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: None)
        for name in works:
            assert choice.choose(problem, contract.Work(name, k=8)).name == "triton"
        for work in (
            contract.Work("cells"), contract.Work("topk", k=65), contract.Work("entropy", gradients=True),
            contract.Work("tangent"),
        ):  # fmt: skip
            assert choice.choose(problem, work).name == "chunked"
        wide = with_tensors(problem, {"query": problem.query.double(), "key": problem.key.double()})
        assert choice.choose(wide, contract.Work("entropy")).name == "chunked"
    with pretend_gpu((7, 5), kernels=True):
        monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: None)
        assert "7.5, below 8.0" in str(choice.WINGS[2].why_not(problem, contract.Work("entropy")))


# --- kernels that stand in --------------------------------------------------------------------------------


def answers(query, key, value, scale, left, right):
    """What a kernel promises: [B,H,N,D] in, context and lse out, float64 inside."""
    n, m = query.shape[2], key.shape[2]
    scores = query.double() @ key.double().mT * scale
    i, j = torch.arange(n)[:, None] + m - n, torch.arange(m)
    hidden = (j < i - left if left >= 0 else torch.zeros(n, m, dtype=torch.bool)) | (
        (j > i + right) if right >= 0 else torch.zeros(n, m, dtype=torch.bool)
    )
    scores = scores.masked_fill(hidden, -math.inf)
    return (scores.softmax(-1) @ value.double()).to(query.dtype), scores.logsumexp(-1).float()


def varlen(fault=lambda lse: lse):
    """varlen_attn for entries of one length, as PyTorch documents it; a fault may change its lse."""

    def attend(query, key, value, starts_q, starts_k, n, m, *, return_aux, scale, window_size, enable_gqa):
        assert return_aux.lse and starts_q.dtype == torch.int32 and starts_q.tolist() == [0, n, 2 * n]
        assert enable_gqa == (query.shape[1] != key.shape[1]) and query.is_contiguous
        given = [one.unflatten(0, (B, -1)).transpose(1, 2) for one in (query, key, value)]
        given[1:] = (one.repeat_interleave(H // one.shape[1], 1) for one in given[1:])
        context, lse = answers(*given, scale, *window_size)
        return context.transpose(1, 2).flatten(0, 1), fault(lse.transpose(0, 1).reshape(H, -1))

    return attend


def efficient(fault=lambda lse: lse):
    """aten::_efficient_attention_forward, with its padded lse."""

    def attend(query, key, value, bias, a, b, c, d, dropout, mask, want_lse, *, scale):
        assert want_lse and bias is None and dropout == 0 and mask in (0, 2)
        given = [one.transpose(1, 2) for one in (query, key, value)]
        context, lse = answers(*given, scale, -1, 0 if mask == 2 else -1)
        n = lse.shape[2]
        lse = torch.nn.functional.pad(lse, (0, -n % 32), value=math.inf)
        return context.transpose(1, 2), fault(lse), None, None, n, key.shape[1]

    return attend


@pytest.fixture
def stand_in(monkeypatch):
    def put(name, fault=lambda lse: lse):
        if name == "flash":
            monkeypatch.setattr(kernels, "varlen_attention", lambda: varlen(fault))
        else:
            monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", efficient(fault))

    return put


STANDING = [("flash", HALF), ("flash", torch.float16), ("efficient", torch.float32)]
MASKS = {"full": {}, "causal": {"mask": sightline.causal()}, "window": {"mask": sightline.window(3, 1)}}


@pytest.mark.parametrize("kernel, dtype", STANDING)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("sinks", [False, True])
def test_forward_is_attention(stand_in, kernel, dtype, mask, heads, sinks):
    if kernel == "efficient" and mask == "window":
        return
    stand_in(kernel)
    options = MASKS[mask] | ({"sinks": torch.tensor([0.5, -1.0, 4.0, -math.inf])} if sinks else {})
    one = case(dtype, heads=heads, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context, lse = Cuda().forward(problem_of(one))
    wanted = one.reference()
    close(context, wanted.context, 2e-6 if dtype == torch.float32 else 2e-2)
    close(lse, wanted.lse, 1e-5)
    assert context.dtype == dtype and lse.dtype == torch.float64


@pytest.mark.parametrize("kernel, dtype", STANDING)
def test_contexts_are_laid_out_as_queries_are(stand_in, kernel, dtype):
    stand_in(kernel)
    one = case(dtype)
    for query in (one.query, one.query.transpose(1, 2).contiguous().transpose(1, 2)):
        context, _ = Cuda().forward(problem_of(Case(query, one.key, one.value, {})))
        plain, _ = Plain().forward(problem_of(Case(query, one.key, one.value, {})))
        assert context.stride() == plain.stride()


FAULTS = {
    "off by ln 2": (lambda lse: lse + math.log(2), "its lse is off by 0.69"),
    "in base 2": (lambda lse: lse / math.log(2), "its lse is off by"),
    "not written": (lambda lse: torch.full_like(lse, math.nan), "its lse is off by nan"),
    "one row not written": (
        lambda lse: lse.clone().index_fill_(-1, torch.tensor([0]), 0.0) + 0,
        "its lse is off by",
    ),
    "a last axis": (lambda lse: lse[..., None], r"its lse has the shape \[.*, 1\], not"),
    "padded otherwise": (lambda lse: torch.nn.functional.pad(lse, (0, 5)), r"its lse has the shape"),
    "of another order": (lambda lse: lse.flip(-1), r"its lse is off by"),
}


@pytest.mark.parametrize("kernel, dtype", [("flash", HALF), ("efficient", torch.float32)])
@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_lse_is_found_and_the_kernel_dropped(stand_in, kernel, dtype, name):
    fault, told = FAULTS[name]
    stand_in(kernel, fault)
    if kernel == "flash":  # nobody else is to step in
        trust._dropped["efficient"] = "left out by this test"
    one = case(dtype, mask=sightline.causal())
    with pytest.warns(
        RuntimeWarning, match=f"the kernel '{kernel}' of PyTorch .* is not used in this process: .*{told}"
    ):
        context, lse = Cuda().forward(problem_of(one))
    plain = Plain().forward(problem_of(one))
    assert torch.equal(context, plain[0]) and torch.equal(lse, plain[1])
    assert trust.dropped(kernel) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert torch.equal(Cuda().forward(problem_of(one))[0], plain[0])


def test_a_causal_mask_from_the_wrong_corner_is_found(stand_in, monkeypatch):
    stand_in("efficient")
    right = torch.ops.aten._efficient_attention_forward

    def wrong(query, key, *rest, scale):  # counts from the top left, as is_causal does
        n = query.shape[1]
        padded = torch.nn.functional.pad(query, (0, 0, 0, 0, key.shape[1] - n, 0))
        assert padded.shape[1] == key.shape[1]
        first = torch.cat((query, padded[:, : key.shape[1] - n]), 1)
        context, lse, *others = right(first, key, *rest, scale=scale)
        return context[:, :n], torch.nn.functional.pad(lse[..., :n], (0, -n % 32)), *others

    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", wrong)
    with pytest.warns(RuntimeWarning, match="'efficient' .* its lse is off by"):
        context, _ = Cuda().forward(problem_of(case(mask=sightline.causal())))
    close(context, case(mask=sightline.causal()).reference().context, 2e-6)


def test_a_dropped_kernel_is_named(stand_in):
    with pytest.warns(RuntimeWarning):
        trust.drop("flash", "its lse is off by 0.693")
    trust._dropped["efficient"] = "left out by this test"
    with pretend_gpu(kernels=True):
        one = case(HALF, 64)
        explained = sightline.explain(*(t.to(CUDA) for t in (one.query, one.key, one.value)))
        assert "flash: its lse is off by 0.693" in explained.reasons[0]
        assert sightline.info()["cuda kernels dropped"].startswith("flash (its lse is off by 0.693)")


def test_what_is_hidden_has_no_influence(stand_in):
    stand_in("flash")
    one = case(HALF, mask=sightline.causal())
    value = one.value.clone()
    value[:, :, -1] = math.nan  # the last query alone sees it
    context, _ = Cuda().forward(problem_of(Case(one.query, one.key, value, one.options)))
    assert context[:, :, :-1].isfinite().all() and context[:, :, -1].isnan().all()


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("kernel", ["flash", "efficient"])
def test_gradients(stand_in, monkeypatch, kernel, heads, sinks):
    """Given the final context and lse, a kernel's backward pass gives the gradients, sinks or none."""
    stand_in(kernel)
    dtype = HALF if kernel == "flash" else torch.float32
    options = {"mask": sightline.causal()} | ({"sinks": torch.tensor([0.5, -1.0, 2.0, 0.0])} if sinks else {})
    one = case(dtype, heads=heads, **options)
    problem = problem_of(one)

    def flash_backward(grad, q, k, v, out, lse, sq, sk, n, m, causal, rng, scale, window):
        assert causal and window == [-1, 0] and lse.dtype == torch.float32 and lse.shape == (H, B * n)
        given = [each.unflatten(0, (B, -1)).transpose(1, 2) for each in (grad, q, k, v, out)]
        found = by_hand(*given, lse.view(H, B, n).transpose(0, 1), scale)
        return [each.transpose(1, 2).flatten(0, 1) for each in found]

    def efficient_backward(
        grad, q, k, v, bias, out, a, b, n, m, lse, p, seed, offset, mask, of_bias, *, scale
    ):
        assert mask == 2 and bias is None and lse.shape[-1] % 32 == 0 and not of_bias
        given = [each.transpose(1, 2) for each in (grad, q, k, v, out)]
        found = by_hand(*given, lse[..., :n], scale)
        return *(each.transpose(1, 2) for each in found), None

    monkeypatch.setattr(torch.ops.torch_attn, "_varlen_attn_backward", flash_backward)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_backward", efficient_backward)
    context, lse = Cuda().forward(problem)
    grad = torch.randn(context.shape, generator=torch.Generator().manual_seed(9)).to(dtype)
    wanted = ["query", "key", "value"] + ["sinks"] * sinks
    found = Cuda().backward(problem, context, lse, grad, None, wanted)
    plain = Plain().backward(problem, context, lse, grad, None, wanted)
    assert list(found) == wanted
    for name in wanted:
        close(found[name], plain[name], 1e-5 if dtype == torch.float32 else 6e-2)


def by_hand(grad, q, k, v, out, lse, scale):
    """A kernel's backward pass: δ from the context that it is given, weights from the lse."""
    group = q.shape[1] // k.shape[1]
    grad, q, out = grad.double(), q.double(), out.double()
    k, v = (each.double().repeat_interleave(group, 1) for each in (k, v))
    n, m = q.shape[2], k.shape[2]
    hidden = torch.arange(m) > torch.arange(n)[:, None] + m - n
    weights = (q @ k.mT * scale - lse.double()[..., None]).exp().masked_fill(hidden, 0)
    delta = (grad * out).sum(-1, keepdim=True)
    of_scores = weights * (grad @ v.mT - delta) * scale
    to_heads = [each.unflatten(1, (-1, group)).sum(2) for each in (of_scores.mT @ q, weights.mT @ grad)]
    return of_scores @ k, *to_heads


def test_gradients_of_the_lse_and_the_entropy_are_left_to_plain_pytorch(stand_in):
    stand_in("efficient")
    problem = problem_of(case(mask=sightline.causal()))
    context, lse = Cuda().forward(problem)
    grad, of_lse = torch.ones_like(context), torch.ones_like(lse)
    entropy = contract.OfEntropy(torch.zeros_like(lse), torch.ones_like(lse))
    for given in ((of_lse, None), (None, entropy)):
        found = Cuda().backward(problem, context, lse, grad, *given[:1], ["query"], given[1])
        assert torch.equal(
            found["query"],
            Plain().backward(problem, context, lse, grad, given[0], ["query"], given[1])["query"],
        )


@pytest.mark.parametrize("kernel, dtype", [(kernels.Flash(), HALF), (kernels.Efficient(), torch.float32)])
@pytest.mark.parametrize("group", [1, 2])
def test_shapes_and_dtypes_on_cuda(kernel, dtype, group):
    """PyTorch's own description of its kernels, under fake tensors that lie on CUDA."""
    with FakeTensorMode():
        query = torch.empty(2, 4, 33, 64, dtype=dtype, device=CUDA)
        key = torch.empty(2, 4 // group, 70, 64, dtype=dtype, device=CUDA)
        problem = Problem(query, key, key.clone(), 0.125)
        context, lse = kernel.forward(problem)
        assert (context.shape, context.dtype, context.device) == (query.shape, dtype, CUDA)
        assert (lse.shape, lse.dtype, lse.device) == ((2, 4, 33), torch.float64, CUDA)
        if kernel.name == "efficient":
            return  # PyTorch 2.13 describes its backward pass without the context that it takes
        found = kernel.backward(problem, context, lse, context)
        for gradient, of in zip(found, (query, key, key), strict=True):
            assert gradient.shape == of.shape and gradient.device == CUDA


def test_the_efficient_backward_pass_takes_what_it_is_given():
    """In the order in which the stand-in of ``test_gradients`` has it."""
    schema = torch.ops.aten._efficient_attention_backward.default._schema
    assert [one.name for one in schema.arguments if not one.kwarg_only] == [
        "grad_out_", "query", "key", "value", "bias", "out", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q",
        "max_seqlen_k", "logsumexp", "dropout_p", "philox_seed", "philox_offset", "custom_mask_type",
        "bias_requires_grad",
    ]  # fmt: skip
    assert "scale" in [one.name for one in schema.arguments if one.kwarg_only]

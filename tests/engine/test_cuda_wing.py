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
from torch._meta_registrations import meta__efficient_attention_backward
from torch._subclasses.fake_tensor import FakeTensorMode

import sightline
from cases import Case, close
from pretend_gpu import CUDA, pretend_gpu
from sightline.backends import choice, contract
from sightline.backends.cuda import Cuda, flash, trust
from sightline.backends.cuda.efficient import Efficient
from sightline.backends.cuda.flash import Flash
from sightline.backends.cuda.flex import Flex
from sightline.backends.cuda.pattern import Pattern, pattern_of
from sightline.backends.plain import Plain
from sightline.backends.problem import Problem, tensors, with_tensors

from .standing_in import efficient, efficient_backward, varlen, varlen_backward

# Brings the operators that are stood in for.
pytest.importorskip("torch.nn.attention.varlen", reason="PyTorch before 2.10 has no varlen_attn")

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

UNION = sightline.prefix(8) | sightline.causal()


def ends(device):
    return sightline.lengths(torch.tensor([11, 5]).to(device))


def papers(device):
    return sightline.documents((torch.arange(7) // 3).to(device), (torch.arange(11) // 4).to(device))


CHOSEN = [
    # (options, dtype, width) -> kernel; where Triton is missing, the kernel, or what explain says
    ({}, HALF, 64, "flash", "flash"),
    ({"mask": sightline.causal()}, HALF, 64, "flash", "flash"),
    ({"mask": sightline.window(3, 0)}, torch.float16, 128, "flash", "flash"),
    ({"mask": ends}, HALF, 64, "flash", "flash"),
    ({"mask": papers}, HALF, 64, "flash", "flash"),
    ({"sinks": torch.zeros(H)}, HALF, 256, "flash", "flash"),
    ({}, HALF, 12, "flash: heads are 12 wide.*efficient: heads are 12 wide, and it takes multiples of 8", "efficient: heads are 12 wide"),
    ({}, torch.float32, 12, "efficient", "efficient"),
    ({}, torch.float32, 10, "efficient: heads are 10 wide, and it takes multiples of 4.*flex: heads are 10 wide", "efficient: heads are 10 wide"),
    ({}, torch.float32, 18, "flex", "efficient: heads are 18 wide"),
    ({}, torch.float32, 64, "efficient", "efficient"),
    ({"mask": sightline.causal(), "scale": 0.3}, torch.float32, 40, "efficient", "efficient"),
    ({}, HALF, 264, "efficient", "efficient"),
    ({"mask": sightline.window(3, 0)}, torch.float32, 64, "flex", "flash: the dtype is torch.float32.*efficient: the mask is neither full nor causal; flex: Triton is not installed"),
    ({"mask": lambda device: ends(device) & sightline.causal()}, HALF, 64, "flex", "flash: the mask is neither full, causal nor a window, within pieces"),
    ({"mask": UNION}, HALF, 64, "flex", "flash: the mask is neither full, causal nor a window"),
    ({"mask": UNION, "sinks": torch.zeros(H)}, torch.float32, 64, "flex", "flex: Triton is not installed"),
    ({"mask": torch.ones(N, M, dtype=torch.bool)}, HALF, 64, "flex", "flash: it knows no dense mask; efficient: it knows no dense"),
    ({"softcap": 5.0}, HALF, 64, "flex", "flash: it knows no softcap"),
    ({"bias": sightline.alibi(torch.ones(H))}, HALF, 64, "flex", "flash: it knows no bias"),
    ({"bias": torch.zeros(N, M), "softcap": 3.0}, HALF, 64, "flex", "flash: it knows no bias and no softcap"),
    ({}, torch.float64, 64, "efficient: the dtype is torch.float64.*flex: the dtype is torch.float64", "dtype is torch.float64"),
    ({"softcap": 5.0}, HALF, 8, "flex: heads are 8 wide, and it takes 16 to 256", "flex: heads are 8 wide"),
    ({"softcap": 5.0, "dropout": 0.5}, HALF, 64, "flex: it knows no dropout", "flash: it knows no softcap and no dropout"),
]  # fmt: skip


@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize("options, dtype, width, with_it, without", CHOSEN)
def test_the_choice_and_its_reason(monkeypatch, options, dtype, width, with_it, without, triton):
    with pretend_gpu(kernels=True):
        if triton:
            monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: None)
        one = case(dtype, width)
        moved = {name: to_gpu(value) for name, value in options.items()}
        explained = sightline.explain(*(t.to(CUDA) for t in (one.query, one.key, one.value)), **moved)
    wanted = with_it if triton else without
    if wanted in ("flash", "efficient", "flex"):
        assert (explained.forward.backend, explained.forward.path) == ("cuda", wanted)
        assert explained.backward == explained.forward
        assert f"PyTorch's {wanted} kernel for CUDA" in str(explained)
        assert not [reason for reason in explained.reasons if "instead of" in reason]
        assert 0 < explained.computed <= 1
    else:
        assert explained.forward.backend == "chunked"
        (reason, *_) = explained.reasons
        assert reason.startswith("Plain PyTorch instead of PyTorch's CUDA kernels: ")
        assert re.search(wanted, reason), reason


def to_gpu(value):
    if callable(value):
        return value(CUDA)
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


@pytest.mark.parametrize(
    "dtype, chosen", [(torch.float32, "efficient"), (torch.float16, "flash"), (HALF, "flash")]
)
def test_a_card_of_the_time_before_bfloat16(dtype, chosen):
    """It has no kernel for bfloat16, which is nothing against those for other dtypes."""
    with pretend_gpu((7, 5), kernels=True):
        one = case(dtype, 64)
        problem = problem_of(Case(*(each.to(CUDA) for each in (one.query, one.key, one.value)), {}))
        assert next(Cuda()._kernels(problem)).name == chosen
        why = str(Efficient().why_not(problem))
        assert ("7.5, and its bfloat16 begins at 8.0" in why) == (dtype == HALF)


MANY = 70000


@pytest.mark.parametrize("batch, heads", [(MANY, 1), (1, MANY)])
def test_more_matrices_than_a_grid_has_programs(monkeypatch, batch, heads):
    """Instead of a launch that fails, and a kernel that is dropped for it."""
    with pretend_gpu(kernels=True):
        monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: None)
        query = torch.zeros(1, dtype=HALF).expand(batch, heads, 1, 16).to(CUDA)
        problem = Problem(query, query, query, 1.0)
        what = "samples" if batch == MANY else "heads"
        for kernel in (Flash(), Efficient(), Flex()):
            assert f"there are 70000 {what}, and it takes 65535" in str(kernel.why_not(problem))
        assert choice.choose(problem).name == "chunked"
        reading = contract.Work("entropy")
        assert choice.choose(problem, reading).name == "chunked"
        assert "there are 70000 matrices" in str(choice.WINGS[2].why_not(problem, reading))


# --- kernels that stand in --------------------------------------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch):
    def put(name, fault=lambda lse: lse):
        if name == "flash":
            monkeypatch.setattr(flash, "varlen_attention", lambda: varlen(fault))
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
    others = {"flash", "efficient", "flex"} - {kernel}  # none is to step in
    trust._dropped |= dict.fromkeys(others, "left out by this test")
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
    square = case(mask=sightline.causal(), m=N)  # of which both corners are one: it is right
    close(Cuda().forward(problem_of(square))[0], square.reference().context, 2e-6)
    with pytest.warns(RuntimeWarning, match="'efficient' .* its lse is off by"):
        context, _ = Cuda().forward(problem_of(case(mask=sightline.causal())))
    close(context, case(mask=sightline.causal()).reference().context, 2e-6)


def test_a_fault_of_several_samples_is_found(stand_in):
    """One sample is right, and trusted."""
    stand_in("flash", lambda lse: lse.flip(0) if lse.shape[1] > N else lse)
    trust._dropped |= dict.fromkeys(("efficient", "flex"), "left out by this test")
    several = case(HALF)
    single = Case(*(one[:1] for one in (several.query, several.key, several.value)), {})
    close(Cuda().forward(problem_of(single))[1], single.reference().lse, 1e-5)
    with pytest.warns(RuntimeWarning, match="'flash' .* its lse is off by"):
        _, lse = Cuda().forward(problem_of(several))
    close(lse, several.reference().lse, 1e-5)


ALONE = {
    "one query": ({}, 1, M),
    "causal": ({"mask": sightline.causal()}, 1, M),
    "lengths": ({"mask": sightline.lengths(torch.tensor([M, 4]))}, 1, M),
    "documents of one query": ({"mask": sightline.documents(torch.arange(6), torch.arange(12) // 2)}, 6, 12),
}


@pytest.mark.parametrize("heads", [2, 1, 4])
@pytest.mark.parametrize("name", ALONE)
def test_one_query_of_grouped_heads(monkeypatch, name, heads):
    """FlashAttention 2 takes grouped heads for queries where there is one, and mixes up several pieces' lse."""
    own = varlen()

    def mixes(query, key, value, starts_q, starts_k, n, m, **options):
        context, lse = own(query, key, value, starts_q, starts_k, n, m, **options)
        if n > 1:
            return context, lse
        group = query.shape[1] // key.shape[1]
        return context, lse.unflatten(0, (-1, group)).transpose(1, 2).reshape(lse.shape)

    monkeypatch.setattr(flash, "varlen_attention", lambda: mixes)
    options, n, m = ALONE[name]
    one = case(HALF, n=n, m=m, heads=heads, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context, lse = Cuda().forward(problem_of(one))
    close(context, one.reference().context, 2e-2)
    close(lse, one.reference().lse, 1e-5)


def test_a_dropped_kernel_is_named(stand_in):
    with pytest.warns(RuntimeWarning):
        trust.drop("flash", "its lse is off by 0.693")
    trust._dropped |= dict.fromkeys(("efficient", "flex"), "left out by this test")
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


LAYOUTS = {
    "heads inside": lambda one: one.transpose(1, 2).contiguous().transpose(1, 2),
    "last axis strided": lambda one: one.mT.contiguous().mT,
    "spare room": lambda one: torch.nn.functional.pad(one, (1, 2, 1, 0))[:, :, 1:, 1:-2],
    "begins within 16 bytes": lambda one: torch.cat((one.new_zeros(1), one.flatten()))[1:].view(one.shape),
    "broadcast": lambda one: one[:1].expand(one.shape),
    "one number": lambda one: one[:1, :1, :1, :1].expand(one.shape),
}


@pytest.mark.parametrize("kernel, dtype", STANDING)
@pytest.mark.parametrize("name", LAYOUTS)
def test_kernels_are_given_what_they_can_read(stand_in, monkeypatch, kernel, dtype, name):
    """Or else they raise, and would be dropped though they are right. What they can read is not copied."""
    seen = []

    def readable(*given):
        for one in given:
            bytes_between = [stride * one.element_size() for stride in one.stride()[:-1]]
            assert one.stride(-1) == 1 and not any(between % 16 for between in bytes_between)
            assert one.data_ptr() % 16 == 0
            seen.append(one.data_ptr())

    def looking(own):
        return lambda *given, **options: [readable(*given[:3]), own(*given, **options)][1]

    stand_in(kernel)
    module, attend = (
        (flash, "varlen_attention") if kernel == "flash" else (torch.ops.aten, "_efficient_attention_forward")
    )
    own = flash.varlen_attention() if kernel == "flash" else torch.ops.aten._efficient_attention_forward
    monkeypatch.setattr(module, attend, (lambda: looking(own)) if kernel == "flash" else looking(own))
    monkeypatch.setattr(torch.ops.torch_attn, "_varlen_attn_backward", grads(varlen_backward, readable))
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_backward", grads(efficient_backward, readable))
    one = case(dtype, heads=H, mask=sightline.causal())
    laid = Case(*(LAYOUTS[name](each) for each in (one.query, one.key, one.value)), one.options)
    problem = problem_of(laid)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context, lse = Cuda().forward(problem)
        grad = torch.ones((), dtype=dtype).expand(context.shape)  # as of context.sum()
        found = Cuda().backward(problem, context, lse, grad, None, ["query", "key", "value"])
    close(context, laid.reference().context, 2e-6 if dtype == torch.float32 else 2e-2)
    plain = Plain().backward(problem, context, lse, grad, None, ["query", "key", "value"])
    for field, gradient in found.items():
        close(gradient, plain[field], 1e-5 if dtype == torch.float32 else 6e-2)
    if name == "heads inside" and kernel == "efficient":
        assert laid.query.data_ptr() in seen


def grads(own, readable):
    """A backward pass that looks at what it is given: the gradient, query, key, value and context."""

    def look(*given, **options):
        readable(*(one for one in given[:6] if one is not None and one.is_floating_point() and one.dim() > 2))
        return own(*given, **options)

    return look


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

    monkeypatch.setattr(torch.ops.torch_attn, "_varlen_attn_backward", varlen_backward)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_backward", efficient_backward)
    context, lse = Cuda().forward(problem)
    grad = torch.randn(context.shape, generator=torch.Generator().manual_seed(9)).to(dtype)
    wanted = ["query", "key", "value"] + ["sinks"] * sinks
    found = Cuda().backward(problem, context, lse, grad, None, wanted)
    plain = Plain().backward(problem, context, lse, grad, None, wanted)
    assert list(found) == wanted
    for name in wanted:
        close(found[name], plain[name], 1e-5 if dtype == torch.float32 else 6e-2)


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


def lies(tensor, shape, dtype):
    assert (tensor.shape, tensor.dtype, tensor.device) == (shape, dtype, CUDA)


@pytest.mark.parametrize("group", [1, 2])
def test_shapes_and_dtypes_of_flash_on_cuda(group):
    """PyTorch's own description of its kernel, under fake tensors that lie on CUDA."""
    with FakeTensorMode():
        query = torch.empty(2, 4, 33, 64, dtype=HALF, device=CUDA)
        key = torch.empty(2, 4 // group, 70, 64, dtype=HALF, device=CUDA)
        problem = Problem(query, key, key.clone(), 0.125)
        context, lse = Flash().forward(problem)
        lies(context, query.shape, HALF)
        lies(lse, (2, 4, 33), torch.float64)
        found = Flash().backward(problem, context, lse, context)
        for gradient, of in zip(found, (query, key, key), strict=True):
            lies(gradient, of.shape, HALF)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, HALF])
@pytest.mark.parametrize("n, padded", [(1, 32), (32, 32), (33, 64)])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_shapes_and_dtypes_of_efficient_on_cuda(monkeypatch, causal, group, n, padded, dtype):
    """The same, values of another width.

    PyTorch 2.13 describes its backward pass without the context that it takes: that is looked at here.
    """
    pattern = Pattern(None, 0 if causal else None)
    monkeypatch.setattr("sightline.backends.cuda.efficient.pattern_of", lambda problem: pattern)
    own, asked = torch.ops.aten._efficient_attention_forward, []

    def attend(*given, **options):
        found = own(*given, **options)
        lies(found[1], (2, 4, padded), torch.float32)  # the lse
        return found

    def backward(*given, **options):
        grad, query, key, value, bias, context, *_ = given
        for of_context in (grad, context):
            lies(of_context, (2, n, 4, 32), dtype)
        lies(given[10], (2, 4, padded), torch.float32)
        assert given[10].is_contiguous() and bias is None and given[14] == (2 if causal else 0)
        asked.append(True)
        return meta__efficient_attention_backward(*given[:5], *given[6:], **options)

    attend.default = own.default  # which its description asks for
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", attend)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_backward", backward)
    with FakeTensorMode():
        query = torch.empty(2, 4, n, 64, dtype=dtype, device=CUDA)
        key = torch.empty(2, 4 // group, 70, 64, dtype=dtype, device=CUDA)
        value = torch.empty(2, 4 // group, 70, 32, dtype=dtype, device=CUDA)
        problem = Problem(query, key, value, 0.125)
        context, lse = Efficient().forward(problem)
        lies(context, (2, 4, n, 32), dtype)
        lies(lse, (2, 4, n), torch.float64)
        of_query, of_key, of_value = Efficient().backward(problem, context, lse, context)
        lies(of_query, query.shape, dtype)
        lies(of_key, key.shape, torch.float32)
        lies(of_value, value.shape, torch.float32)
    assert asked


def test_pytorchs_own_attention_pads_its_lse_alike():
    """aten::_scaled_dot_product_efficient_attention_backward, by which autograd comes to the same kernel."""
    with FakeTensorMode():
        query, key = (torch.empty(2, 4, n, 64, dtype=HALF, device=CUDA) for n in (33, 70))
        value = torch.empty(2, 4, 70, 32, dtype=HALF, device=CUDA)
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        context, lse, seed, offset = attend(query, key, value, None, True, scale=0.125)
        lies(context, (2, 4, 33, 32), HALF)
        lies(lse, (2, 4, 64), torch.float32)
        found = torch.ops.aten._scaled_dot_product_efficient_attention_backward(
            context, query, key, value, None, context, lse, seed, offset, 0.0, [True, True, True, False],
            scale=0.125,
        )  # fmt: skip
        for gradient, of in zip(found[:3], (query, key, value), strict=True):
            lies(gradient, of.shape, HALF)


def test_the_efficient_backward_pass_takes_what_it_is_given():
    """In the order in which the stand-in of ``test_gradients`` has it."""
    schema = torch.ops.aten._efficient_attention_backward.default._schema
    assert [one.name for one in schema.arguments if not one.kwarg_only] == [
        "grad_out_", "query", "key", "value", "bias", "out", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q",
        "max_seqlen_k", "logsumexp", "dropout_p", "philox_seed", "philox_offset", "custom_mask_type",
        "bias_requires_grad",
    ]  # fmt: skip
    assert "scale" in [one.name for one in schema.arguments if one.kwarg_only]


# --- what is given wrongly, or missing --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key", "value", "mask", "bias", "sinks"])
def test_tensors_on_two_devices(name):
    """As of a model whose layers were spread over devices by hand."""
    with pretend_gpu(kernels=True):
        one = case(HALF, 64)
        given = {"query": one.query, "key": one.key, "value": one.value, "mask": torch.ones(N, M) > 0,
                 "bias": torch.zeros(N, M), "sinks": torch.zeros(H)}  # fmt: skip
        moved = {each: tensor if each == name else tensor.to(CUDA) for each, tensor in given.items()}
        with pytest.raises(ValueError, match=rf"{name}.*cpu.*query.*cuda:0"):
            sightline.attention(**moved)


def test_a_kernel_that_the_card_has_not_is_said_once_and_another_computes(monkeypatch):
    def refuses(*given, **options):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nC++ stack trace")

    monkeypatch.setattr(flash, "varlen_attention", lambda: refuses)
    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", efficient())
    problem = problem_of(case(HALF))
    told = "'flash' .*: it failed with RuntimeError: FlashAttention only supports Ampere GPUs or newer"
    with pytest.warns(RuntimeWarning, match=told):
        context, _ = Cuda().forward(problem)
    close(context, case(HALF).reference().context, 2e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Cuda().forward(problem)

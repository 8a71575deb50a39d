"""Hidden is hidden: what a mask hides may hold anything, and a NaN that is seen reaches its own rows alone.

Two kinds of test, on every backend and level. Whatever stands in hidden places changes no bit of any result;
and with NaN and infinities strewn over all places, every result is NaN (or infinite) exactly where the
definition's is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sightline
from cases import Case, biases, laid_out, masks
from engine.test_native_gradients import leaves_of, term_of
from sightline import reference
from sightline.biases import Alibi
from sightline.core import library

LEVELS = library.levels() if library.available() is None else []
WINGS = [("cpu", level) for level in LEVELS] + [("chunked", None), ("definition", None)]
DIRT = (math.nan, math.inf, -math.inf)


@pytest.fixture(params=WINGS, ids=lambda wing: "-".join(filter(None, wing)))
def wing(request, monkeypatch):
    name, level = request.param
    if level is not None:
        monkeypatch.setenv("SIGHTLINE_ISA", level)
    with sightline.backend(name):
        yield request.param


@st.composite
def hiding(draw: Any, dtypes: tuple[torch.dtype, ...]) -> Case:
    """A problem in which most pairs are hidden or seen by chance; some have few queries and many keys."""
    dtype = draw(st.sampled_from(dtypes))
    b, g, group = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    few = draw(st.booleans())
    n = draw(st.sampled_from([1, 2, 5])) if few else draw(st.sampled_from([3, 17, 31, 64, 67]))
    m = draw(st.sampled_from([33, 70, 129])) if few else draw(st.sampled_from([3, 16, 33, 67]))
    d, e = draw(st.sampled_from([1, 4, 9])), draw(st.sampled_from([1, 5, 18]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = g * group
    shapes = ((b, h, n, d), (b, g, m, d), (b, g, m, e))
    tensors = [own(laid_out(draw, generator, shape, dtype)) for shape in shapes]
    options: dict[str, Any] = {}
    if draw(st.integers(0, 3)):
        options["mask"] = draw(masks((b, h, n, m), generator))
    if "mask" not in options or draw(st.booleans()):
        options["bias"] = draw(biases((b, h, n, m), generator))
    if draw(st.integers(0, 3)) == 0:
        options["softcap"] = 5.0
    if draw(st.integers(0, 3)) == 0:
        options["sinks"] = torch.randn(h, generator=generator)
    return Case(*tensors, options)


def own(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own, in the same layout, so that one element can be changed."""
    if 0 in tensor.stride():
        return tensor.contiguous()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)


def everything(case: Case, upstream: Tensor, dropout: bool = False) -> dict[str, Tensor]:
    """All that attention gives, by name: contexts, gradients, readouts, products, parts."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in leaves_of(case).items()}
    leaves |= {name: own(getattr(case, name)).requires_grad_() for name in ("query", "key", "value")}
    options = dict(case.options)
    if "sinks" in leaves:
        options["sinks"] = leaves["sinks"]
    if "term" in leaves:
        options["bias"] = term_of(case)[1](leaves["term"])
    inputs = [leaves[name] for name in ("query", "key", "value")]
    torch.manual_seed(5)
    context, A = sightline.attention(*inputs, **options, dropout=0.3 if dropout else 0.0, return_matrix=True)
    found = {"context": context.detach(), "lse": A.lse}
    gradients = torch.autograd.grad(context, list(leaves.values()), upstream)
    found |= {f"gradient of {name}": x for name, x in zip(leaves, gradients, strict=True)}
    n, m = case.shape[2:]
    segments = torch.arange(m) // 3
    read = A.readouts(
        "entropy", "received", "max", "max_score", "distance", topk=min(m, 3), segments=segments
    )
    found |= {"entropy": read.entropy, "received": read.received, "distance": read.distance}
    found |= {
        "max": read.max.values,
        "max_score": read.max_score,
        "topk": read.topk.values,
        "mass": read.mass,
    }
    found |= {f"pool {r}": A.pool(4, 5, reduce=r) for r in ("mean", "max", "sum")}
    found["A @ x"] = A @ case.value.repeat_interleave(case.shape[1] // case.value.shape[1], 1).float()
    found["A.T @ x"] = A.T @ upstream.float()
    found["masked"], found["weights"] = A.scores(stage="masked"), A[:, :, :, :].dense()
    found["gather"] = A.gather(torch.full((*case.shape[:3],), m // 2))
    return found


def seen_by(case: Case) -> Tensor:
    return case.reference().masked != -math.inf


def strewn(tensor: Tensor, where: Tensor, generator: torch.Generator, dirt: tuple[float, ...]) -> Tensor:
    """A copy of the same layout, with any of some numbers in some places."""
    dirty = own(tensor.detach())
    kinds = torch.tensor(dirt)
    chosen = kinds[torch.randint(0, len(kinds), where.shape, generator=generator)].to(tensor.dtype)
    dirty[where] = chosen[where]
    return dirty


def with_term(case: Case, term: Tensor | None, **tensors: Tensor) -> Case:
    options = dict(case.options)
    if term is not None:
        options["bias"] = term_of(case)[1](term)
    return replace(case, options=options, **tensors)


def soiled(case: Case, upstream: Tensor, generator: torch.Generator) -> tuple[Case, Tensor]:
    """The same problem with dirt in everything that nobody sees, and in what rows that see nothing are sent."""
    seen = seen_by(case)
    b, h, n, m = seen.shape
    groups, huge = case.key.shape[1], (*DIRT, torch.finfo(case.key.dtype).max)
    unseen_keys = ~seen.reshape(b, groups, -1, m).any(2)
    blind = ~seen.any(-1)
    changed = {}
    for name, where in (("query", blind), ("key", unseen_keys), ("value", unseen_keys)):
        tensor = getattr(case, name)
        changed[name] = strewn(tensor, where[..., None].expand(tensor.shape), generator, huge)
    term = case.options.get("bias")
    term = term if isinstance(term, Tensor) else None
    if term is not None:
        shape = (1,) * (4 - term.dim()) + tuple(term.shape)
        anywhere = seen.clone()
        for axis, size in enumerate(shape):
            if size == 1:
                anywhere = anywhere.any(axis, keepdim=True)
        # A bias of -inf that hides has to stay; any other that nobody sees may be anything.
        term = strewn(term, (~anywhere).reshape(term.shape) & (term != -math.inf), generator, huge)
    sent = strewn(upstream, blind[..., None].expand(upstream.shape), generator, huge)
    return with_term(case, term, **changed), sent


def same(found: Tensor, wanted: Tensor, exact: bool) -> bool:
    """Equal; NaN (a cell of a picture in which nothing is visible) equals NaN.

    To the last bit, or but for the rounding of the dtype: PyTorch's own products may sum in another order.
    """
    rounding = 0.0 if exact else 8 * max(torch.finfo(found.dtype).eps, torch.finfo(torch.float32).eps)
    return torch.allclose(found, wanted, rtol=rounding, atol=rounding, equal_nan=True)


def check_hidden(case: Case, seed: int, dropout: bool, exact: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn((*case.query.shape[:3], case.value.shape[3]), generator=generator)
    upstream = upstream.to(case.query.dtype)
    dirty, sent = soiled(case, upstream, generator)
    clean, found = everything(case, upstream, dropout), everything(dirty, sent, dropout)
    blind = ~seen_by(case).any(-1)
    for name, tensor in found.items():
        wanted = clean[name]
        if name == "A.T @ x" or name == "A @ x":
            assert tensor.isfinite().all(), name
        if name in ("context", "gradient of query"):
            assert (tensor[blind] == 0).all(), name
        assert same(tensor, wanted, exact), name


FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def test_what_is_hidden_changes_no_bit(wing):
    dtypes = FLOATS if wing[0] == "cpu" else (*FLOATS, torch.float64)

    @settings(max_examples=25)
    @given(case=hiding(dtypes), seed=st.integers(0, 2**31), dropout=st.booleans())
    def check(case, seed, dropout):
        check_hidden(case, seed, dropout, exact=wing[0] == "cpu")

    check()


# What float32 sums of inputs of each dtype are held to; results rounded to a half dtype, to its precision.
CONTEXT = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
GRADIENT = {torch.float64: 4e-4, torch.float32: 4e-4, torch.bfloat16: 1.5e-1, torch.float16: 3e-2}


def defined(case: Case, upstream: Tensor) -> dict[str, Tensor]:
    """What the definition gives, by the names of ``everything``."""
    leaves = {name: tensor.detach().double().requires_grad_() for name, tensor in leaves_of(case).items()}
    options = dict(case.options)
    if "sinks" in leaves:
        options["sinks"] = leaves["sinks"]
    if "term" in leaves:
        options["bias"] = term_of(case)[1](leaves["term"])
    stages = reference.attention(*(leaves[name] for name in ("query", "key", "value")), **options)
    gradients = torch.autograd.grad(
        stages.context, list(leaves.values()), upstream.double(), allow_unused=True
    )
    found = {
        f"gradient of {name}": torch.zeros_like(leaf) if x is None else x
        for (name, leaf), x in zip(leaves.items(), gradients, strict=True)
    }
    weights, masked, lse = stages.weights.detach(), stages.masked.detach(), stages.lse.detach()
    n, m = case.shape[2:]
    seen, steps = masked != -math.inf, (torch.arange(n)[:, None] + m - n - torch.arange(m)).abs()
    values = case.value.double().repeat_interleave(case.shape[1] // case.value.shape[1], 1)
    one_hot = torch.nn.functional.one_hot(torch.arange(m) // 3).double()
    return found | {
        "context": stages.context.detach(),
        "lse": lse,
        "entropy": torch.special.entr(weights).sum(-1),
        "received": weights.sum(-2),
        "distance": (weights * steps).sum(-1),
        "max": weights.amax(-1),
        "max_score": masked.amax(-1).masked_fill(lse.isnan(), math.nan),
        "topk": weights.topk(min(m, 3)).values,
        "mass": reference.seen_product(
            weights.where(one_hot.T[:, None, None, None] > 0, 0)[..., None, :],
            torch.ones(m, 1).double(),
            seen[..., None, :],
        )[..., 0, 0].movedim(0, -1),
        "A @ x": reference.seen_product(weights, values, seen),
        "A.T @ x": reference.seen_product(weights.mT, upstream.double(), seen.mT),
        "masked": masked,
        "weights": weights,
    }


def numbers(tensor: Tensor) -> Tensor:
    """NaN for everything that is not finite: which of them comes out may depend on the precision."""
    return tensor.double().masked_fill(~tensor.isfinite(), math.nan)


def check_seen(case: Case, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn((*case.query.shape[:3], case.value.shape[3]), generator=generator)
    upstream = upstream.to(case.query.dtype)

    def sprinkled(tensor: Tensor, dirt: tuple[float, ...]) -> Tensor:
        where = torch.rand(tensor.shape, generator=generator) < 1.5 / max(1, tensor.numel())
        return strewn(tensor, where, generator, dirt)

    # An infinity in a query or key makes logits of either sign, and what those are is another matter.
    kinds = {"query": (math.nan,), "key": (math.nan,), "value": DIRT}
    changed = {name: sprinkled(getattr(case, name), dirt) for name, dirt in kinds.items()}
    term, _ = term_of(case)
    if term is not None and not isinstance(case.options["bias"], Alibi):
        term = sprinkled(term, DIRT)
    case = with_term(case, term, **changed)
    found, wanted = everything(case, upstream), defined(case, upstream)
    for name, expected in wanted.items():
        context = name in ("context", "weights")
        tolerance = (GRADIENT if name.startswith("gradient") else CONTEXT)[
            case.query.dtype if context or name.startswith("gradient") else torch.float32
        ]
        size = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 0.0
        torch.testing.assert_close(
            numbers(found[name]),
            numbers(expected),
            atol=tolerance * max(1.0, size),
            rtol=tolerance,
            equal_nan=True,
            check_stride=False,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_what_is_seen_reaches_its_own_rows(wing):
    dtypes = FLOATS if wing[0] == "cpu" else (*FLOATS, torch.float64)

    @settings(max_examples=40)
    @given(case=hiding(dtypes), seed=st.integers(0, 2**31))
    def check(case, seed):
        check_seen(case, seed)

    check()


def check_neighbours(case: Case, seed: int, dropout: bool, exact: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn((*case.query.shape[:3], case.value.shape[3]), generator=generator)
    upstream = upstream.to(case.query.dtype)
    seen = seen_by(case)
    b, h, n, m = seen.shape
    dirty = {}
    for name, tensor in (("query", case.query), ("key", case.key), ("value", case.value), ("sent", upstream)):
        where = torch.rand(tensor.shape, generator=generator) < 1.5 / max(1, tensor.numel())
        dirty[name] = strewn(tensor, where, generator, (math.nan,)), where.any(-1)
    sent, sent_where = dirty.pop("sent")
    soiled = replace(case, **{name: tensor for name, (tensor, _) in dirty.items()})
    keys = (dirty["key"][1] | dirty["value"][1]).repeat_interleave(h // case.key.shape[1], 1)
    rows = (seen & keys[:, :, None]).any(-1) | ((dirty["query"][1] | sent_where) & seen.any(-1))
    reached = (seen & rows[..., None]).any(2).reshape(b, case.key.shape[1], -1, m).any(2)
    clean, found = everything(case, upstream, dropout), everything(soiled, sent, dropout)
    for name in (
        "context",
        "lse",
        "entropy",
        "distance",
        "max",
        "max_score",
        "topk",
        "mass",
        "gradient of query",
    ):
        assert same(found[name][~rows], clean[name][~rows], exact), name
    for name in ("gradient of key", "gradient of value"):
        assert same(found[name][~reached], clean[name][~reached], exact), name
    unseen = ~seen.any(2)
    assert (found["received"][unseen] == 0).all() and (found["weights"][~seen] == 0).all()


def test_what_sees_no_dirt_is_the_same(wing):
    dtypes = FLOATS if wing[0] == "cpu" else (*FLOATS, torch.float64)

    @settings(max_examples=25)
    @given(case=hiding(dtypes), seed=st.integers(0, 2**31), dropout=st.booleans())
    def check(case, seed, dropout):
        check_neighbours(case, seed, dropout, exact=wing[0] == "cpu")

    check()


@pytest.mark.parametrize("cols", [slice(None), slice(1, None, 2)])
def test_what_keys_add_to_contexts(cols):
    query, key, value = torch.randn(3, 1, 2, 6, 4)
    clean = sightline.AttentionMatrix(query, key, value, mask=sightline.causal())
    value = value.index_fill(2, torch.tensor([5]), math.nan)
    dirty = sightline.AttentionMatrix(query, key, value, mask=sightline.causal())
    rows = slice(0, 5)
    found, wanted = (A.scores(rows, cols, stage="context") for A in (dirty, clean))
    torch.testing.assert_close(found, wanted)
    assert dirty.scores(5, cols, stage="context").isnan().all()

"""Every readout and gradient against float64, on the device, before anything is timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sightline import reference
from sightline.bench.gpu.clock import sized, within
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import OURS, Row, Session
from sightline.biases import alibi, relative
from sightline.call.attention import attention
from sightline.call.explain import explain
from sightline.masks import causal, documents, lengths, prefix, window
from sightline.matrix import compiled

#: The largest error, as a share of the largest number: of what is read off the matrix, and of contexts and
#: gradients, which are rounded to the dtype.
_READ = {"float32": 2e-4, "bfloat16": 2e-3, "float16": 2e-3}
_ROUNDED = {"float32": 2e-4, "bfloat16": 3e-2, "float16": 4e-3}
_FIELDS = ("query", "key", "value")


#: Where a reduction is compiled, too: for each it takes seconds.
_REDUCED = ("causal", "all")
#: Seconds after which what is left is left out: a whole run is to take ten minutes.
_SECONDS = 270.0


def rows(session: Session) -> Iterator[Row]:
    """Every mask and term, in bfloat16, float32 and float16; then every width of a head."""
    return within(_SECONDS, _all(session), session, "gpu-correct")


def _all(session: Session) -> Iterator[Row]:
    n, m, width = sized(session, full=(515, 700, 64), quick=(515, 700, 64), tiny=(9, 13, 16))
    dtypes = sized(session, full=("bfloat16", "float32", "float16"), quick=("bfloat16",), tiny=("float32",))
    widths = sized(session, full=(16, 32, 80, 128, 192, 256), quick=(128, 256), tiny=(8,))
    for dtype in dtypes:
        for name, options in _options(n, m, session.device).items():
            yield _row(session, name, options, dtype, (n, m, width))
    for dtype in dtypes:
        for wide in widths:
            yield _row(session, f"causal, heads {wide} wide", {"mask": causal()}, dtype, (n, m, wide))


def _options(n: int, m: int, device: torch.device) -> dict[str, dict[str, Any]]:
    generator = torch.Generator().manual_seed(4)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    paper = (torch.arange(n, device=device) // 4, torch.arange(m, device=device) // 5)
    ends = lengths(torch.tensor([m, m // 2], device=device))
    return {
        "full": {},
        "causal": {"mask": causal()},
        "window": {"mask": window(5, 0)},
        "lengths": {"mask": ends},
        "lengths, causal": {"mask": ends & causal()},
        "documents": {"mask": documents(*paper)},
        "union": {"mask": prefix(3) | window(4, 0)},
        "dense": {"mask": random(n, m) > 0},
        "bias": {"bias": random(4, n, m)},
        "alibi": {"bias": alibi(random(4).abs()), "mask": causal()},
        "relative": {"bias": relative(random(4, 9))},
        "softcap": {"softcap": 5.0},
        "sinks": {"sinks": random(4), "mask": causal()},
        "all": {"mask": ends & causal(), "bias": alibi(random(4).abs()), "softcap": 5.0, "sinks": random(4)},
    }


def _row(session: Session, name: str, options: dict[str, Any], dtype: str, size: tuple[int, int, int]) -> Row:
    n, m, width = size
    session.progress(f"correct: {name}, {dtype}")
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, n, width), (2, 2, m, width), (2, 2, m, width))
    given = [torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for shape in shapes]
    query, key, value = (one.to(session.device) for one in given)
    row: Row = {"case": name, "dtype": dtype}
    plan = explain(query, key, value, **options)
    row["kernel"] = plan.forward.path if plan.forward.backend == "cuda" else plan.forward.backend
    try:
        errors = _errors(query, key, value, options)
        if name in _REDUCED:
            errors["reduce"] = _reduced(query, key, value, options)
    except Exception as error:  # one that fails must not keep the others from being looked at
        session.note(OURS, f"failed on {name} {dtype}: {type(error).__name__}: {error}")
        return row | {"verdict": "failed"}
    allowed = {part: _ROUNDED if part in ("context", *_FIELDS) else _READ for part in errors}
    bad = {part: off for part, off in errors.items() if not off <= allowed[part][dtype]}
    if bad:
        session.note(OURS, f"wrong on {name} {dtype}: {', '.join(f'{p} by {e:.2g}' for p, e in bad.items())}")
    groups = {
        "context": ["context"], "gradients": _FIELDS,
        "readouts": set(errors) - {"context", *_FIELDS},
    }  # fmt: skip
    found = {group: max(errors[part] for part in parts) for group, parts in groups.items()}
    return row | found | {"errors": errors, "verdict": "wrong" if bad else "ok"}


def _errors(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> dict[str, float]:
    """How far each part is from float64, as a share of its largest number."""
    ours = [one.clone().requires_grad_() for one in (query, key, value)]
    exact = [one.double().requires_grad_() for one in (query, key, value)]
    context = attention(*ours, **options)
    _, matrix = attention(query, key, value, **options, return_matrix=True)
    right = reference.attention(*exact, **options)
    grad = torch.linspace(-1, 1, context.numel(), device=context.device).view(context.shape)
    errors = {"context": _off(context.detach(), right.context.detach())}
    found = torch.autograd.grad(context, ours, grad.to(context.dtype))
    wanted = torch.autograd.grad(right.context, exact, grad.to(context.dtype).double())
    errors |= {name: _off(a, b) for name, a, b in zip(_FIELDS, found, wanted, strict=True)}
    weights, lse = right.weights.detach(), right.lse.detach()
    seen = lse.isfinite()
    errors["lse"] = _off(matrix.lse[seen], lse[seen])
    answers = matrix.readouts("entropy", "received", "max", "distance", topk=min(8, weights.shape[3]))
    segments = torch.arange(weights.shape[3], device=query.device) % 3
    x = torch.ones(weights.shape[3], 5, device=query.device).cumsum(0) / weights.shape[3]
    y = torch.ones(weights.shape[2], 5, device=query.device).cumsum(0) / weights.shape[2]
    n, m = weights.shape[2:]
    step = (
        torch.arange(n, device=query.device)[:, None] + m - n - torch.arange(m, device=query.device)
    ).abs()
    pairs = {
        "entropy": (answers.entropy, -torch.special.xlogy(weights, weights).sum(-1)),
        "received": (answers.received, weights.sum(2)),
        "max": (answers.max.values, weights.amax(-1)),
        "top-k": (answers.topk.values, weights.topk(answers.topk.values.shape[-1], -1).values),
        "distance": (answers.distance, (weights * step).sum(-1)),
        "mass": (matrix.mass(segments), weights @ torch.nn.functional.one_hot(segments).double()),
        "A @ x": (matrix @ x, weights @ x.double()),
        "A.mT @ x": (matrix.mT @ y, weights.mT @ y.double()),
    }
    return errors | {name: _off(a, b) for name, (a, b) in pairs.items()}


def _reduced(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> float:
    """How far a sum is off of a function that no kernel knows: on a GPU it is compiled."""
    compiled.asked_for([_cubed], compiled.WORTH)
    _, matrix = attention(query, key, value, **options, return_matrix=True)
    weights = reference.attention(query.double(), key.double(), value.double(), **options).weights
    i, j = (torch.arange(length, device=query.device) for length in weights.shape[2:])
    wanted = _cubed(weights, weights, i[:, None], j).sum(2)
    return _off(matrix.reduce(_cubed, over="queries"), wanted)


def _cubed(weights: Tensor, scores: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return weights**3 * (i - j)


def _off(found: Tensor, right: Tensor) -> float:
    if found.shape != right.shape:
        return float("inf")
    if not right.numel():
        return 0.0
    return float((found.double() - right).abs().max() / right.abs().max().clamp(min=1e-3))


SECTION = BenchSection(
    name="gpu-correct",
    title="On a device: right",
    note=(
        "The largest error against float64, as a share of the largest number: context, gradients of query, "
        "key and value, and lse, entropy, received, max, top-8, distance, mass and two products together."
    ),
    columns=(
        CASE, DTYPE, Column("kernel", "by", "text"), Column("context", "context", "error"),
        Column("gradients", "gradients", "error"), Column("readouts", "readouts", "error"),
        Column("verdict", "check", "text"),
    ),
    rows=rows,
)  # fmt: skip

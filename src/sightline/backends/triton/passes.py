"""The passes, launched: what each gives of a problem, in the engine's terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.backends.contract import FUNCTIONS, Answer, Over, PooledRegion, Request, Summand, Values
from sightline.backends.problem import Problem, lse_dtype
from sightline.backends.softmax import RowSums, Sums
from sightline.backends.triton.cells import cell_pass
from sightline.backends.triton.columns import column_pass
from sightline.backends.triton.given import given, launched, power_of_2, product_precision, split, steps
from sightline.backends.triton.launching import launch
from sightline.backends.triton.rows import row_pass, row_product
from sightline.positions.align import offsets

_NO_FUNCTION = -1
#: Columns of a factor that a program multiplies with.
_COLUMNS = 32
#: Where an lse is far from 0: an ulp of float32 is 4e-6 at 32, and 1e-4 at 1024, which halves lost before.
_FAR = {torch.float32: 32, torch.float16: 1024, torch.bfloat16: 1024}
_IN_ROWS = ("entropy", "max", "max_score", "topk", "distance")


class _Rows(NamedTuple):
    """What the row pass is asked for."""

    entropy: bool = False
    best: bool = False
    k: int = 0
    distance: Request | None = None
    summand: Summand | None = None
    lse: bool = False


def row_lse(problem: Problem) -> Tensor:
    """The lse of all rows [B,H,N], with sinks."""
    found = _row_pass(problem, None, _Rows(lse=True))
    dtype = lse_dtype(problem.query)
    lse = found["LseTop"].to(dtype) + found["LseSum"].to(dtype).log()
    if problem.sinks is not None:
        lse = torch.logaddexp(lse, problem.sinks.to(dtype)[:, None])
    return lse


def settled(problem: Problem, lse: Tensor) -> Sums:
    """What weights are made with: the lse, or each row's own sums where that is far from 0.

    There another kernel's lse differs by an ulp or two of a large number, and of a bias of -1e30 on all of a
    row not even float64 holds what was summed beside it.
    """
    size = lse.abs()
    far = bool(((size > _FAR[problem.query.dtype]) & (size < math.inf)).any())
    return row_sums(problem) if far else lse


def row_sums(problem: Problem) -> RowSums:
    """Those of all rows, [B,H,N] float32, sinks included."""
    found = _row_pass(problem, None, _Rows(lse=True))
    top, total = found["LseTop"], found["LseSum"]
    if problem.sinks is not None:
        sink = problem.sinks.float()[:, None]
        larger = torch.maximum(top, sink)
        shift = larger.masked_fill(larger == -math.inf, 0)
        top, total = larger, total * (top - shift).exp() + (sink - shift).exp()
    nothing = total == 0
    return RowSums(top.masked_fill(nothing, -math.inf), total.masked_fill(nothing, 1).log())


def readouts(problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
    """Readouts by name: one row pass for those of rows, one column pass for what keys received."""
    sums = settled(problem, lse)
    named = {request.name: request for request in requests}
    answers: dict[str, Answer] = {}
    if any(name in named for name in _IN_ROWS):
        answers |= _of_rows(problem, lse, sums, named)
    if "received" in named:
        answers["received"] = key_sums(problem, sums, Summand("weight"))
    if "mass" in named:
        answers["mass"] = _mass(problem, sums, named["mass"].segments)
    return {request.name: answers[request.name] for request in requests}


def _of_rows(problem: Problem, lse: Tensor, sums: Sums, named: dict[str, Request]) -> dict[str, Answer]:
    k = named["topk"].k if "topk" in named else 0
    asked = _Rows("entropy" in named, "max" in named or "max_score" in named, k, named.get("distance"))
    found = _row_pass(problem, sums, asked)
    answers: dict[str, Answer] = {}
    for name in ("entropy", "distance"):
        if name in named:
            answers[name] = found[name.capitalize()]
    if asked.best:
        scores, indices = _unpacked(found["Best"])
        if "max_score" in named:
            answers["max_score"] = scores.masked_fill(lse.isnan(), math.nan)
        if "max" in named:
            answers["max"] = Values(_weights(scores, sums), indices)
    if k:
        scores, indices = _unpacked(found["Top"].sort(-1, descending=True).values[..., :k])
        answers["topk"] = Values(_weights(scores, sums), indices)
    return answers


def _row_pass(problem: Problem, lse: Sums | None, asked: _Rows) -> dict[str, Tensor]:
    b, h, n, m = problem.shape
    k = power_of_2(asked.k, 2) if asked.k else 1
    new = problem.query.new_empty
    flags = {
        "Entropy": asked.entropy, "Sums": asked.summand is not None, "Distance": asked.distance is not None,
        "LseTop": asked.lse, "LseSum": asked.lse,
    }  # fmt: skip
    out = {name: new((b, h, n), dtype=torch.float32) for name, want in flags.items() if want}
    if asked.best:
        out["Best"] = new((b, h, n), dtype=torch.int64)
    if asked.k:
        out["Top"] = new((b, h, n, k), dtype=torch.int64)
    where = None
    if asked.distance is not None:
        where = offsets(asked.distance.align, b, n, m, problem.query.device)
    # A table's entries take as many registers as an order does: each is loaded from a place of its own.
    crowded = asked.k > 0 or problem.table is not None
    arguments = given(problem, lse) | launched(problem, "order" if crowded else "sums")
    pointers = dict.fromkeys(
        ("Entropy", "Sums", "Distance", "Best", "Top", "LseTop", "LseSum"), problem.query
    )
    function = _NO_FUNCTION if asked.summand is None else FUNCTIONS.index(asked.summand.function)
    if b and h and n:
        own = {
            "Steps": problem.query if where is None else where, "steps_b": steps(where, "b")[0],
            "threshold": 0.0 if asked.summand is None else float(asked.summand.threshold),
            "ENTROPY": asked.entropy, "FUNCTION": function, "DISTANCE": where is not None,
            "BEST": asked.best, "K": k, "LSE": asked.lse,
        }  # fmt: skip
        launch(row_pass, (-(-n // arguments["BLOCK_N"]), b * h), {**arguments, **pointers, **out, **own})
    return out


def summed(problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
    """Σ of a function over each row's visible keys, [B,H,N], or over each key's queries, [B,H,M]."""
    sums = settled(problem, lse)
    if over == "keys":
        return _row_pass(problem, sums, _Rows(summand=summand))["Sums"]
    return key_sums(problem, sums, summand)


def key_sums(problem: Problem, lse: Sums, summand: Summand) -> Tensor:
    """Σ of a function over each key's queries: [B,H,M]."""
    return _column_pass(problem, lse, summand=summand)["Sums"]


def key_largest(problem: Problem, lse: Tensor) -> Tensor:
    """The largest weight that each key gets: [B,H,M]; -1 for one that no query may look at."""
    return _column_pass(problem, settled(problem, lse), largest=True)["Largest"]


def transposed_product(problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
    """The transposed matrix times x [B|1, H|1, N, F]: [B,H,M,F]."""
    return _column_pass(problem, settled(problem, lse), x=x)["Out"]


def _column_pass(
    problem: Problem,
    lse: Sums,
    summand: Summand | None = None,
    largest: bool = False,
    x: Tensor | None = None,
) -> dict[str, Tensor]:
    b, h, n, m = problem.shape
    width = 1 if x is None else x.shape[3]
    block = 16 if x is None else min(_COLUMNS, power_of_2(width))
    new = problem.query.new_empty
    out = {}
    if summand is not None:
        out["Sums"] = new((b, h, m), dtype=torch.float32)
    if largest:
        out["Largest"] = new((b, h, m), dtype=torch.float32)
    if x is not None:
        out["Out"] = new((b, h, m, width), dtype=torch.float32)
    arguments = given(problem, lse) | launched(problem, "sums" if x is None else "product")
    hulls = _hulls(problem, arguments["BLOCK_N"])
    entries = None if x is None else x.float()
    x_steps = [0, 0, 0, 0] if entries is None else steps(entries, "bh")
    if b and h and m and width:
        pointers = dict.fromkeys(("Sums", "Largest", "Out"), problem.query)
        own = {
            "Hulls": problem.query if hulls is None else hulls,
            "hull_b": steps(hulls, "bh..")[0], "hull_h": steps(hulls, "bh..")[1],
            "X": problem.query if entries is None else entries,
            **dict(zip(("x_b", "x_h", "x_n", "x_f"), x_steps, strict=True)),
            "F": width, "threshold": 0.0 if summand is None else float(summand.threshold),
            "FUNCTION": _NO_FUNCTION if summand is None else FUNCTIONS.index(summand.function),
            "LARGEST": largest, "PRODUCT": x is not None, "PRODUCT_PRECISION": product_precision(problem),
            "BLOCK_F": block,
        }  # fmt: skip
        grid = (-(-m // arguments["BLOCK_M"]), b * h, -(-width // block))
        launch(column_pass, grid, {**arguments, **pointers, **out, **own})
    return out


def _hulls(problem: Problem, block: int) -> Tensor | None:
    """[1|B,1|H,blocks,2] int32: the keys that any row of a block may see."""
    ranges, n, m = problem.ranges, problem.shape[2], problem.shape[3]
    if ranges is None:
        return None
    low, high = ranges[..., 0], ranges[..., 1]
    nothing = low >= high
    low, high = low.masked_fill(nothing, m).amin(3), high.masked_fill(nothing, 0).amax(3)
    low, high = (bound.expand(*bound.shape[:2], n) for bound in (low, high))
    low = torch.nn.functional.pad(low, (0, -n % block), value=m).unflatten(2, (-1, block)).amin(3)
    high = torch.nn.functional.pad(high, (0, -n % block), value=0).unflatten(2, (-1, block)).amax(3)
    return torch.stack((low, high), -1).int().contiguous()


def product(problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
    """The matrix times x [B|1, H|1, M, F]: [B,H,N,F]."""
    entries = x.float()
    sums = settled(problem, lse)
    return _row_product(problem, sums, entries, steps(entries, "bh"), x.shape[3], segments=False)


def _mass(problem: Problem, lse: Sums, segments: Tensor | None) -> Tensor:
    """Σ of the weights of each segment of keys: [B,H,N,S]."""
    assert segments is not None
    ids = (segments if segments.dim() == 2 else segments[None]).int()
    count = int(ids.max()) + 1 if ids.numel() else 0
    step_b, step_m = steps(ids, "b.")
    return _row_product(problem, lse, ids, [step_b, 0, step_m, 0], count, segments=True)


def _row_product(
    problem: Problem, lse: Sums, x: Tensor, x_steps: list[int], width: int, segments: bool
) -> Tensor:
    b, h, n, _ = problem.shape
    out = problem.query.new_empty((b, h, n, width), dtype=torch.float32)
    block = min(_COLUMNS, power_of_2(max(1, width)))
    arguments = given(problem, lse) | launched(problem, "product")
    if out.numel():
        own = {
            "X": x, "Out": out, **dict(zip(("x_b", "x_h", "x_m", "x_f"), x_steps, strict=True)), "F": width,
            "SEGMENTS": segments, "PRODUCT_PRECISION": product_precision(problem), "BLOCK_F": block,
        }  # fmt: skip
        grid = (-(-n // arguments["BLOCK_N"]), b * h, -(-width // block))
        launch(row_product, grid, arguments | own)
    return out


def pool(problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
    """The picture of a region, [B,H,height,width]."""
    b, h, n, m = problem.shape
    top, bottom, _ = region.rows.indices(n)
    left, right, _ = region.cols.indices(m)
    rows, cols = max(0, bottom - top), max(0, right - left)
    shape, largest = (b, h, region.height, region.width), region.reduce == "max"
    new = problem.query.new_empty
    values, seen = new(shape, dtype=torch.float32), new(shape, dtype=torch.int64)
    arguments: dict[str, Any] = given(problem, settled(problem, lse)) | launched(problem, "picture")
    for name, cells, size in (("BLOCK_N", region.height, rows), ("BLOCK_M", region.width, cols)):
        fits = power_of_2(-(-size // max(1, cells)) or 1)
        arguments[name] = min(arguments[name], fits)
    if values.numel():
        own = {
            "Sums": values, "Largest": values, "Seen": seen,
            "RowEdges": _edges(top, rows, region.height, values.device),
            "KeyEdges": _edges(left, cols, region.width, values.device), "width": region.width,
            "LARGEST": largest,
        }  # fmt: skip
        launch(cell_pass, (region.height * region.width, b * h), arguments | own)
    if region.reduce == "sum":
        return values
    mean = values if largest else values / seen
    return mean.masked_fill(seen == 0, math.nan)


def _edges(begin: int, count: int, cells: int, device: torch.device) -> Tensor:
    """[cells+1] int32: cell r has what lies between edge r and the next."""
    return (begin + torch.arange(cells + 1, device=device) * count // cells).int()


def _unpacked(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The logits and keys that a kernel packed; -inf and -1 where there is none."""
    nothing = packed < -(1 << 63) + 2 + (1 << 32)
    bits = (packed >> 32).int()
    scores = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(torch.float32)
    indices = 0x7FFFFFFF - (packed & 0xFFFFFFFF)
    return scores.masked_fill(nothing, -math.inf), indices.masked_fill(nothing, -1)


def _weights(scores: Tensor, lse: Sums) -> Tensor:
    """exp(scores - lse) of scores [B,H,N] or [B,H,N,k], 0 for a score of -inf."""
    high, low = (one if scores.dim() == 3 else one[..., None] for one in split(lse))
    weights = ((scores - high) - low).exp()
    return weights.masked_fill(scores == -math.inf, 0)

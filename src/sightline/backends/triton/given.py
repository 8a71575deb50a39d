"""What every kernel is given: a problem as pointers, strides, numbers and constants, by name."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.softmax import RowSums, Sums
from sightline.common.check import SettingError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
#: The largest head; a tile of queries and one of keys have to fit into registers and shared memory.
WIDEST = 256
#: The most weights of a row that :func:`rows.row_pass` keeps in order.
MOST = 64
PRECISIONS = ("ieee", "tf32x3", "tf32")
#: What a kernel does with a tile, which decides how large one may be.
Use = Literal["sums", "product", "order", "picture"]


class Tile(NamedTuple):
    """How many rows and columns a program works on at a time, and how many warps do."""

    rows: int
    cols: int
    warps: int


def precision() -> str:
    """How float32 is multiplied, of ``PRECISIONS``: SIGHTLINE_TRITON_PRECISION, by default "ieee".

    "ieee" multiplies float32 as it is, without tensor cores. "tf32x3" makes each product of three of tf32,
    nearly as exact and several times as fast; "tf32" of one, with 10 bits.

    Raises:
        SettingError: for another word.
    """
    word = os.environ.get("SIGHTLINE_TRITON_PRECISION") or "ieee"
    if word not in PRECISIONS:
        raise SettingError(f"SIGHTLINE_TRITON_PRECISION: {word!r}: must be one of {', '.join(PRECISIONS)}.")
    return word


def tile_of(width: int, half: bool) -> Tile:
    """The tile for heads of that width; chosen so that no kernel spills (tests/gpu_offline compiles all)."""
    if half:
        return Tile(64, 64, 4) if width <= 128 else Tile(64, 32, 8)
    return Tile(32, 32, 4) if width <= 128 else Tile(16, 16, 4)


def power_of_2(number: int, least: int = 16) -> int:
    """The smallest power of 2 that is no smaller."""
    return max(least, 1 << (number - 1).bit_length())


def given(problem: Problem, lse: Sums | None) -> dict[str, Any]:
    """The arguments that all kernels share, by name.

    Args:
        lse: [B,H,N] of all rows, or what it is the sum of; ``None`` where it is asked for.
    """
    query, key, ranges, visible, bias = (
        problem.query, problem.key, problem.ranges, problem.visible, problem.bias
    )  # fmt: skip
    b, h, n, m = problem.shape
    width, none = query.shape[3], query
    if ranges is not None and ranges.stride()[3:] != (2, 1):
        ranges = ranges.contiguous()
    slopes = None if problem.slopes is None else problem.slopes.contiguous()
    table = None if problem.table is None else problem.table.contiguous()
    high, low = (none, none) if lse is None else split(lse)
    arguments: dict[str, Any] = {
        "Query": query, "Key": key, "Ranges": none if ranges is None else ranges,
        "Visible": none if visible is None else visible.view(torch.uint8),
        "Bias": none if bias is None else bias,
        "Slopes": none if slopes is None else slopes, "Table": none if table is None else table,
        "Offset": none if problem.offset is None else problem.offset, "High": high, "Low": low,
    }  # fmt: skip
    arguments |= zip_names("query", "bhnd", steps(query, "")) | zip_names("key", "bgmd", steps(key, ""))
    arguments |= zip_names("range", "bhn", steps(ranges, "bhn")[:3])
    arguments |= zip_names("visible", "bhnm", steps(visible, "bhnm"))
    arguments |= zip_names("bias", "bhnm", steps(bias, "bhnm"))
    arguments |= {
        "slope_b": steps(slopes, "b.")[0], "table_h": steps(table, "h.")[0],
        "offset_b": steps(problem.offset, "b")[0],
        "scale": float(problem.scale), "softcap": 0.0 if problem.softcap is None else float(problem.softcap),
        "H": h, "group": problem.group, "N": n, "M": m, "D": width,
        "T": 0 if table is None else table.shape[1],
    }  # fmt: skip
    half = query.dtype != torch.float32
    return arguments | {
        "RANGES": 0 if ranges is None else ranges.shape[3], "VISIBLE": visible is not None,
        "BIAS": bias is not None,
        "SLOPES": slopes is not None, "TABLE": table is not None, "SOFTCAP": problem.softcap is not None,
        "PRECISION": "ieee" if half else precision(), "BLOCK_D": power_of_2(width),
    }  # fmt: skip


def product_tile_of(width: int, half: bool) -> Tile:
    """The same for products with the matrix, whose numbers are float32 and take more room."""
    if half:
        return Tile(32, 32, 4) if width <= 128 else Tile(32, 16, 8)
    if width <= 64:
        return Tile(32, 32, 4)
    return Tile(32, 16, 4) if width <= 128 else Tile(16, 16, 4)


def generation(device: torch.device) -> int:
    """Of a card: 8 for compute capability 8.0 to 8.9."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 8


def order_tile_of(width: int, half: bool, scarce: bool) -> Tile:
    """The same for a row's largest weights in order, which take many registers.

    Fewer are left where a bias, a table or a dense mask is loaded, and on 10.0: there more warps share a
    smaller tile.
    """
    if half:
        return Tile(64, 32, 8) if scarce else tile_of(width, half)
    return Tile(32, 16, 4) if 64 < width <= 128 else tile_of(width, half)


def picture_tile_of(width: int, half: bool) -> Tile:
    """The same for pictures.

    Of larger tiles or with fewer warps compilers spill a few registers, so that one more program fits on a
    multiprocessor.
    """
    if half:
        return Tile(32, 32, 8)
    return Tile(16, 16, 8) if width > 128 else order_tile_of(width, half, scarce=False)


def launched(problem: Problem, use: Use = "sums") -> dict[str, Any]:
    """The tile, as the last arguments of a launch."""
    width, half = problem.query.shape[3], problem.query.dtype != torch.float32
    match use:
        case "sums":
            tile = tile_of(width, half)
        case "product":
            tile = product_tile_of(width, half)
        case "order":
            loaded = any(term is not None for term in (problem.bias, problem.table, problem.visible))
            tile = order_tile_of(width, half, loaded or generation(problem.query.device) >= 10)
        case "picture":
            tile = picture_tile_of(width, half)
    return {
        "BLOCK_N": tile.rows, "BLOCK_M": tile.cols, "num_warps": tile.warps, "num_stages": 2,
        "enable_fp_fusion": True,
    }  # fmt: skip


def product_precision(problem: Problem) -> str:
    """How weights are multiplied with float32: beside halves, three times tf32 are as good as exact."""
    return precision() if problem.query.dtype == torch.float32 else "tf32x3"


def split(lse: Sums) -> tuple[Tensor, Tensor]:
    """An lse in two float32 numbers that add up to it; 0 for a row with nothing to look at.

    A weight is then as exact as its logit, however large the lse is.
    """
    if isinstance(lse, RowSums):
        top = lse.top.masked_fill(lse.top == -torch.inf, 0)
        return top.float().contiguous(), lse.log_sum.float().contiguous()
    whole = lse.masked_fill(lse == -torch.inf, 0).contiguous()
    high = whole.float()
    return high, (whole.double() - high.double()).float().nan_to_num(nan=0.0)


def steps(tensor: Tensor | None, axes: str) -> list[int]:
    """The strides of a tensor, 0 along the ``axes`` that broadcast and have size 1."""
    if tensor is None:
        return [0] * max(1, len(axes))
    may = axes.ljust(tensor.dim(), ".")
    return [
        0 if letter != "." and size == 1 else stride
        for letter, size, stride in zip(may, tensor.shape, tensor.stride(), strict=True)
    ]


def zip_names(name: str, letters: str, values: list[int]) -> dict[str, int]:
    """``name_letter`` by letter."""
    return {f"{name}_{letter}": value for letter, value in zip(letters, values, strict=True)}

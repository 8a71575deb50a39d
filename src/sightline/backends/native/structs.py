"""The native core's C structures: that of a problem follows from the description of its fields.

``native/include/sightline.h`` says what each member means. The core reports its own layout, and a test
compares.
"""

from __future__ import annotations

import ctypes
import struct

from sightline.backends.problem import FIELDS, GRADIENTS

_POINTER, _INT64, _INT32, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float
_Members = list[tuple[str, type]]

# Axes that the kernels read as contiguous vectors; the others have a stride.
_CONTIGUOUS = "DER2T"

#: Strides of every tensor of a problem that the core reads, by name; the seed goes by value.
STRIDES = {
    field.name: sum(letter not in _CONTIGUOUS for letter in field.axes) for field in FIELDS if field.axes
}

#: Gradients that are written by strides, and those that are contiguous.
STRIDED_GRADIENTS, FLAT_GRADIENTS = GRADIENTS[:4], GRADIENTS[4:]


def _term(name: str, strides: int) -> _Members:
    """A pointer, and the strides of its leading axes."""
    return [(name, _POINTER), *([(f"{name}_stride", _INT64 * strides)] if strides else [])]


class ProblemStruct(ctypes.Structure):
    """sightline_problem."""

    _fields_ = [
        *((name, _INT64) for name in ("batch", "heads", "kv_heads", "queries", "keys", "width")),
        *((name, _INT64) for name in ("value_width", "range_count", "radius")),
        *(member for name, strides in STRIDES.items() for member in _term(name, strides)),
        *((name, _FLOAT) for name in ("scale", "softcap")),
        *((name, _INT32) for name in ("dtype", "bias_dtype")),
        ("seed", ctypes.c_uint64),
        ("keep_threshold", ctypes.c_uint32),
        ("keep_scale", _FLOAT),
        *_term("visible_map", 3),  # the core's own notes
    ]


class GradientsStruct(ctypes.Structure):
    """sightline_gradients; null pointers are not computed."""

    _fields_ = [
        *_term("context", 3),
        *_term("lse", 0),
        *_term("grad_context", 3),
        *_term("grad_lse", 0),
        *_term("grad_entropy", 0),
        *(member for name in STRIDED_GRADIENTS for member in _term(name, STRIDES[name])),
        *((name, _POINTER) for name in FLAT_GRADIENTS),
    ]


class ReadoutsStruct(ctypes.Structure):
    """sightline_readouts; null pointers are not computed."""

    _fields_ = [
        *((name, _POINTER) for name in ("entropy", "received", "max_weight", "max_index", "max_score")),
        *((name, _POINTER) for name in ("topk_weights", "topk_indices", "distance")),
        *((name, _POINTER) for name in ("cell_sum", "cell_max", "cell_seen", "row_sums", "key_sums")),
        ("k", _INT64),
        ("position", _POINTER),
        ("position_stride", _INT64),
        ("cells", _POINTER),
        ("cell_stride", _INT64),
        ("cell_count", _INT64),
        ("function", _INT32),
        ("threshold", _FLOAT),
    ]


class PlanStruct(ctypes.Structure):
    """sightline_plan_info."""

    _fields_ = [("path", _INT32), ("workers", _INT32), ("parts", _INT64), ("products", _INT32)]


class TangentsStruct(ctypes.Structure):
    """sightline_tangents; null pointers stand still."""

    _fields_ = [
        *(member for name in ("query", "key", "value") for member in _term(name, STRIDES[name])),
        *_term("context", 3),
        *_term("tangent_context", 3),
        *_term("lse", 0),
        *_term("tangent_lse", 0),
    ]


#: In the order in which the core numbers them.
STRUCTS: tuple[type[ctypes.Structure], ...] = (
    ProblemStruct,
    GradientsStruct,
    ReadoutsStruct,
    PlanStruct,
    TangentsStruct,
)

# What of a problem is written in one go: a short call would spend as long on ctypes members one by one as on
# its attention. Sizes and the tensors that every problem has stand first; a term that is left out stays zero.
_REQUIRED = [field.name for field in FIELDS if field.required]
HEAD = struct.Struct("@9q" + "".join(f"P{STRIDES[name]}q" for name in _REQUIRED))
NUMBERS = struct.Struct("@ffiiQIf")
NUMBERS_AT = int(ProblemStruct.scale.offset)
# A problem of nothing else than key ranges.
BARE = struct.Struct(
    f"{HEAD.format}{ProblemStruct.ranges.offset - HEAD.size}xP3q"
    f"{NUMBERS_AT - ProblemStruct.ranges.offset - 32}x{NUMBERS.format[1:]}"
    f"{ctypes.sizeof(ProblemStruct) - NUMBERS_AT - NUMBERS.size}x"
)
TERM = {axes: struct.Struct(f"@P{axes}q") for axes in range(1, 5)}
# Strides that are an argument of their own.
STRIDES_OF = {axes: struct.Struct(f"@{axes}q") for axes in (2, 3)}
GRADIENTS_LAYOUT = struct.Struct(
    "@P3qPP3qPP" + "".join(f"P{STRIDES[name]}q" for name in STRIDED_GRADIENTS) + "3P"
)
#: By name, where a term that may be left out lies, and how many strides it has.
PLACES = {
    name: (int(getattr(ProblemStruct, name).offset), strides)
    for name, strides in STRIDES.items()
    if name not in _REQUIRED
}

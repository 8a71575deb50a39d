"""What is written in one go lies where the C structs have it."""

import ctypes
import re
import struct

import pytest

from sightline.backends import native


@pytest.mark.parametrize(
    "packed, fields",
    [(native.PROBLEM, native.ProblemStruct), (native.GRADIENTS, native.GradientsStruct)],
)
def test_layouts_agree(packed, fields):
    assert packed.size == ctypes.sizeof(fields)
    codes = "".join(code * int(count or 1) for count, code in re.findall(r"(\d*)([a-zA-Z])", packed.format))
    at, offsets = 0, []
    for code in codes:
        size = struct.calcsize(code)
        at = -(-at // size) * size
        offsets.append(at)
        at += size
    assert {getattr(fields, name).offset for name, _ in fields._fields_} <= set(offsets)

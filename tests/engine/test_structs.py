"""What Python writes lies where the native core reads it: the core reports the layout of its structures."""

import ctypes

import pytest

from sightline.backends.native import structs
from sightline.backends.problem import FIELDS
from sightline.core import library

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")

_NAMES = (
    "sightline_problem",
    "sightline_gradients",
    "sightline_readouts",
    "sightline_plan_info",
    "sightline_tangents",
)


def told(struct, field):
    """(name, offset, size) of a member, or ``None`` past the last one; -1 is the structure itself."""
    name, offset, size = ctypes.c_char_p(), ctypes.c_int64(), ctypes.c_int64()
    status = library.library().sightline_layout(
        struct, field, ctypes.byref(name), ctypes.byref(offset), ctypes.byref(size)
    )
    return None if status else (name.value.decode(), offset.value, size.value)


@pytest.mark.parametrize("number", range(len(structs.STRUCTS)), ids=_NAMES)
def test_layouts_agree(number):
    struct = structs.STRUCTS[number]
    assert told(number, -1) == (_NAMES[number], 0, ctypes.sizeof(struct))
    members = [(name, getattr(struct, name)) for name, _ in struct._fields_]
    for at, (name, place) in enumerate(members):
        assert told(number, at) == (name, place.offset, place.size)
    assert told(number, len(members)) is None


def test_no_other_structures():
    assert told(len(structs.STRUCTS), -1) is None and told(-1, 0) is None


def test_every_tensor_of_a_problem_has_a_place():
    names = {name for name, _ in structs.ProblemStruct._fields_}
    for field in FIELDS:
        if field.axes:
            assert {field.name, f"{field.name}_stride"} <= names
    assert structs.HEAD.size == structs.ProblemStruct.ranges.offset
    assert structs.NUMBERS_AT + structs.NUMBERS.size == structs.ProblemStruct.visible_map.offset
    assert structs.GRADIENTS_LAYOUT.size == ctypes.sizeof(structs.GradientsStruct)

"""Odd values of each kind of argument: what must be refused, and what must be taken.

A table names for each argument of a callable its kind; ``refused`` are values for which the callable raises an
error of ours that names the argument, ``taken`` are values that it takes, by what they are worth.
"""

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

NAN = float("nan")


class Kind(NamedTuple):
    """What an argument may not be, and pairs of an odd value and the plain one that it stands for."""

    refused: tuple
    taken: tuple = ()

    def without(self, *kinds: Any) -> "Kind":
        """The same, where values that equal or are of these are another matter."""
        kept = [one for one in self.refused if not any(_is(one, other) for other in kinds)]
        return Kind(tuple(kept), self.taken)

    def also(self, *refused: Any) -> "Kind":
        """The same, with more that is refused."""
        return Kind(self.refused + refused, self.taken)


def _is(one: Any, other: Any) -> bool:
    if isinstance(other, type):
        return type(one) is other
    return one is other or (type(one) is type(other) is list and one == other)


_NO_INTEGER = (
    True,
    1.0,
    1.5,
    "3",
    NAN,
    [0.5],
    torch.tensor(3.0),
    torch.tensor([3, 3]),
    torch.tensor(3, device="meta"),
)
_INTEGERS = ((numpy.int64(3), 3), (torch.tensor(3), 3))

INTEGER = Kind((*_NO_INTEGER, None), _INTEGERS)
NATURAL = INTEGER.also(-1)
SIZE = NATURAL.also(0)
OPTIONAL_NATURAL = Kind((*_NO_INTEGER, -1), _INTEGERS)
OPTIONAL_SIZE = Kind((*_NO_INTEGER, -1, 0), _INTEGERS)

NUMBER = Kind(
    (
        True,
        "0.5",
        None,
        NAN,
        float("inf"),
        [0.5],
        1j,
        torch.tensor([0.5, 0.5]),
        torch.tensor(0.5, device="meta"),
    ),
    ((numpy.float32(0.5), 0.5), (torch.tensor(0.5), 0.5)),
)
POSITIVE = NUMBER.also(0, -1)
SHARE = NUMBER.also(-0.1, 1.5)
FLAG = Kind(("no", None, 2, 0.5, [True], torch.tensor(True)), ((numpy.bool_(True), True),))


def choice(*but: Any) -> Kind:
    """None of the words; ``but`` are values that are taken."""
    return Kind(("", "nope", "LAYER", None, 3, ["layer"])).without(*but)


#: Integers for each entry of a batch of two.
EACH = Kind(
    (
        3, 3.0, "ab", [1.5, 2.5], [True, False], ["a", "b"], {1, 2}, numpy.array([1.0, 2.0]), torch.tensor([2.0, 3.0]),
        torch.tensor([True, False]), torch.tensor([2, 3]).to_sparse(), [[1], [2]], [1, None],
    ),
    ((numpy.array([2, 3]), [2, 3]), ((2, 3), [2, 3]), ([numpy.int64(2), torch.tensor(3)], [2, 3])),
)  # fmt: skip
ALIGN = Kind(
    (
        "left",
        "",
        None,
        True,
        1.5,
        [0.5],
        2**40,
        -(2**40),
        torch.tensor([0.0, 1.0]),
        torch.tensor(1),
        torch.ones(2) > 0,
    ),
    ((numpy.int64(1), 1), (torch.tensor([1, 1]), 1)),
)
PATH = Kind((None, 3, "", True, b"here", ["here"], "a\0b"))


def no_tensor(shape: tuple[int, ...]) -> tuple:
    """What stands for a floating tensor of a shape, and is none that can be taken."""
    whole = torch.zeros(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are on their way out
        quantised = torch.quantize_per_tensor(whole, 0.1, 0, torch.qint8)
    texts = torch.nested.nested_tensor([torch.zeros(shape[1:])] * shape[0], layout=torch.jagged)
    return (
        None, 3, "x", whole.tolist(), whole.numpy(), whole.long(), whole.bool(), whole.to(torch.complex64), whole[0],
        whole.to_sparse(), quantised, texts,
    )  # fmt: skip


def floating(*shape: int) -> Kind:
    """Floating tensors of a shape, whose last axis counts."""
    return Kind((*no_tensor(shape), torch.zeros(shape)[..., :-1]))


def ids(*shape: int) -> Kind:
    """Token ids."""
    whole = torch.zeros(shape, dtype=torch.int64)
    return Kind(
        (
            None,
            3,
            "x",
            whole.tolist(),
            whole.numpy(),
            whole.float(),
            whole.bool(),
            whole.to_sparse(),
            whole[None, None],
        )
    )


def files() -> dict[str, Path]:
    """Paths that hold nothing good."""
    folder = Path(tempfile.mkdtemp())
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"\xff\xfe not what is looked for")
    return {"missing": folder / "none", "folder": folder / "empty", "file": folder / "file"}


def shown(value: Any) -> str:
    """A value as part of a test's name."""
    if isinstance(value, torch.Tensor):
        shape = "nested" if value.is_nested else list(value.shape)
        return f"{shape} {value.dtype} {value.layout} {value.device}".replace("torch.", "")
    if isinstance(value, numpy.ndarray):
        return f"array {value.dtype} {list(value.shape)}"
    return re.sub(r"\s+", " ", f"{type(value).__name__} {value!r}")[:60]

"""Classes of products: what decides which way is fastest, and layers that stand for each class."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

#: The product of a layer, and those of its two gradients.
Form = Literal["forward", "grad_input", "grad_weight", "packed"]
#: Those that a layer has whose weight is not packed.
FORMS: tuple[Form, ...] = ("forward", "grad_input", "grad_weight")

_ONE, _FEW, _SOME = 2, 16, 128  # rows, at most
_SMALL = 128 * 128  # weights of a layer, at most


class ProductClass(NamedTuple):
    """Products that are alike.

    Attributes:
        form: which product of a layer; "packed" is the first of them, with a packed weight.
        dtype: of its operands.
        rows: "one", "few", "some" or "many": how many rows the layer is given.
        size: "small" or "large": its matrix of weights.
    """

    form: Form
    dtype: torch.dtype
    rows: str
    size: str

    def __str__(self) -> str:
        return f"{self.form} {str(self.dtype).removeprefix('torch.')} {self.rows} {self.size}"


def rows_class(rows: int) -> str:
    """What many rows are called; two are "one", too."""
    if rows <= _FEW:
        return "one" if rows <= _ONE else "few"
    return "some" if rows <= _SOME else "many"


def size_class(weights: int) -> str:
    """ "small" or "large"."""
    return "small" if weights <= _SMALL else "large"


class Layer(NamedTuple):
    """The sizes of a layer's products."""

    rows: int
    inputs: int
    outputs: int


def example(of: ProductClass) -> Layer:
    """A layer that stands for the class."""
    if of.size == "small":
        return Layer({"one": 1, "few": 6, "some": 32, "many": 512}[of.rows], 64, 64)
    if of.dtype == torch.float32 and of.rows == "many" and of.form in ("grad_input", "grad_weight"):
        # The native core packs for each product. Of these sizes it takes 0.70 to 0.86 of PyTorch's time where
        # it gains in a model, and 1.16 to 1.40 where it does not; of smaller ones the two come closer.
        return Layer(384, 512, 512)
    # Few rows take as long as reading the weights does, which a small matrix does not show.
    rows, width = {"one": (1, 1536), "few": (6, 768), "some": (32, 512), "many": (256, 384)}[of.rows]
    return Layer(rows, width, width)


def sketch(of: ProductClass) -> Layer:
    """A smaller one, by which a way that is many times as slow as another gives itself away."""
    rows, inputs, outputs = example(of)
    return Layer(min(rows, 32), min(inputs, 128), min(outputs, 128))

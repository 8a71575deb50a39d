"""A derivative as a function: what it takes, what it gives, and how it came about.

It begins with a function of problems: attention, a readout. A reverse step turns a function into the one that
gives the gradients of some of its inputs, a forward step into the one that gives its outputs and their
tangents. Steps chain: two reverse steps are double backward, a forward step after a reverse one is the
Hessian times a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sightline.backends.problem import FIELDS, Problem
from sightline.backends.schedule import Place
from sightline.common import dispatcher

Arrays: TypeAlias = tuple[Tensor | None, ...]
Outputs: TypeAlias = tuple[Tensor, ...]
Function: TypeAlias = Callable[..., Outputs]


class Slot(NamedTuple):
    """A tensor that goes in or comes out.

    Attributes:
        name: the problem's field or output that it has the shape of.
        axes: one letter for each axis; see :class:`sightline.backends.problem.Axes`.
        broadcasts: the axes that may have size 1 instead.
        smooth: whether derivatives reach it.
    """

    name: str
    axes: str
    broadcasts: str = ""
    smooth: bool = True


#: What the tensors of a problem take, in the order of ``FIELDS``, and the softcap as a tensor.
PROBLEM = (
    *(Slot(each.name, each.axes, each.broadcasts, each.gradient) for each in FIELDS),
    Slot("softcap", ""),
)
#: Where among them the softcap stands.
SOFTCAP = len(FIELDS)


class Part(NamedTuple):
    """One block of what is differentiated.

    Attributes:
        problems: the block's own, their tensors in the dtype that is computed in.
        others: its part of what else goes in.
        whole: the problems that it is a block of.
        place: where it lies in them.
        careful: what is hidden holds NaN, and has to be kept out of every product.
    """

    problems: tuple[Problem, ...]
    others: Arrays
    whole: tuple[Problem, ...]
    place: Place
    careful: bool


@dataclass(frozen=True, eq=False)
class Base:
    """A function of one or more problems of one shape that is a sum over blocks of whole rows.

    Attributes:
        rule: gives a block's share of the outputs, by what PyTorch can differentiate any number of times.
        outputs: what comes out. One with an axis N is filled row by row, others are summed up.
        others: what goes in besides the problems.
        problems: how many.
        sizes: of the letters of outputs that no input has.
        dtypes: of the outputs, given those of the query and the lse.
    """

    rule: Callable[[Part], Outputs]
    outputs: tuple[Slot, ...]
    others: tuple[Slot, ...] = ()
    problems: int = 1
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtypes: Callable[[torch.dtype, torch.dtype], tuple[torch.dtype, ...]] | None = None

    @property
    def inputs(self) -> tuple[Slot, ...]:
        """The tensors of the problems, one after another, then the others."""
        return PROBLEM * self.problems + self.others

    def shapes(self, arrays: Arrays) -> tuple[tuple[int, ...], ...]:
        """The shapes of its outputs."""
        sizes = dict(self.sizes)
        for slot, array in zip(self.inputs, arrays, strict=False):
            for letter, size in zip(slot.axes, () if array is None else array.shape, strict=False):
                if letter not in slot.broadcasts:
                    sizes.setdefault(letter, size)
        return tuple(tuple(sizes[letter] for letter in slot.axes) for slot in self.outputs)

    def output_dtypes(self, query: torch.dtype, lse: torch.dtype) -> tuple[torch.dtype, ...]:
        """The dtypes of its outputs: float32 or better where it does not say otherwise."""
        if self.dtypes is not None:
            return self.dtypes(query, lse)
        wide = torch.float64 if query == torch.float64 else torch.float32
        return (wide,) * len(self.outputs)


class Step(NamedTuple):
    """One differentiation.

    Attributes:
        kind: "reverse" or "forward".
        of: which inputs it is done for.
        given: of a reverse step, the outputs that have a gradient; the others have none.
    """

    kind: Literal["reverse", "forward"]
    of: tuple[int, ...]
    given: tuple[int, ...] = ()


class Order(NamedTuple):
    """A derivative.

    Attributes:
        base: of what.
        inputs, outputs: what it takes and gives, in order.
        steps: how it came about; none for the function itself.
        before: the function that the last step differentiated.
    """

    base: Base
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    steps: tuple[Step, ...] = ()
    before: Order | None = None

    @classmethod
    def of(cls, base: Base) -> Order:
        """The function itself."""
        return cls(base, base.inputs, base.outputs)

    def reverse(self, of: tuple[int, ...], given: tuple[int, ...], known: tuple[Slot, ...] = ()) -> Order:
        """The gradients of the inputs ``of``, given those of the outputs ``given``.

        Args:
            known: outputs that the caller has, after the gradients; not differentiated.
        """
        inputs = (*self.inputs, *(self.outputs[at] for at in given), *known)
        outputs = tuple(self.inputs[at] for at in of)
        return Order(self.base, inputs, outputs, (*self.steps, Step("reverse", of, given)), self)

    def forward(self, of: tuple[int, ...]) -> Order:
        """The outputs and their tangents, given tangents of the inputs ``of``."""
        inputs = (*self.inputs, *(self.inputs[at] for at in of))
        return Order(self.base, inputs, self.outputs * 2, (*self.steps, Step("forward", of)), self)

    def shapes(self, arrays: Arrays) -> tuple[tuple[int, ...], ...]:
        """The shapes of its outputs."""
        if self.before is None:
            return self.base.shapes(arrays)
        step = self.steps[-1]
        if step.kind == "forward":
            return self.before.shapes(arrays) * 2
        return tuple(tuple(arrays[at].shape) for at in step.of)  # type: ignore[union-attr]  # given, so there

    def dtypes(self, of_arrays: tuple[torch.dtype | None, ...], lse: torch.dtype) -> tuple[torch.dtype, ...]:
        """The dtypes of its outputs, each that of what it is a derivative of, given the lse's."""
        if self.before is None:
            query = of_arrays[0]
            assert query is not None
            return self.base.output_dtypes(query, lse)
        step = self.steps[-1]
        if step.kind == "forward":
            return self.before.dtypes(of_arrays, lse) * 2
        return tuple(of_arrays[at] for at in step.of)  # type: ignore[misc]  # given, so there

    def function(self, first: Function) -> Function:
        """The derivative of ``first``, a function of the first order's inputs; by ``torch.func``."""
        if self.before is None:
            return first
        inner, step = self.before.function(first), self.steps[-1]
        through = _gradients if step.kind == "reverse" else _tangents
        count = len(self.before.inputs)
        return lambda *arrays: through(inner, step, arrays[:count], arrays[count:])


def _gradients(inner: Function, step: Step, inputs: Arrays, given: Arrays) -> Outputs:
    outputs, pull = _reversed(_only(inner, step.of, inputs), tuple(inputs[at] for at in step.of))
    by_output = dict(zip(step.given, given, strict=False))  # after them may stand what is known
    # Zeros made of the outputs carry every level of differentiation that the outputs carry.
    full = tuple(
        by_output[at] if at in by_output else torch.zeros_like(output) for at, output in enumerate(outputs)
    )
    return pull(full)


def _tangents(inner: Function, step: Step, inputs: Arrays, given: Arrays) -> Outputs:
    primals = tuple(inputs[at] for at in step.of)
    function = _only(inner, step.of, inputs)
    if not dispatcher.forward_mode_is_taken():
        both: tuple[Outputs, Outputs] = torch.func.jvp(function, primals, given)  # type: ignore[assignment]
        return (*both[0], *both[1])
    # Two reverse steps: gradients are linear in what they are given, and the tangent is their transpose.
    outputs, pull = _reversed(function, primals)
    _, push = _reversed(lambda *gradients: pull(gradients), tuple(map(torch.zeros_like, outputs)))
    return (*outputs, *push(given))


def _reversed(function: Function, primals: Arrays) -> tuple[Outputs, Callable[[Arrays], Outputs]]:
    """The outputs, and what gives the gradients of all inputs for those of all outputs."""
    outputs, pull = torch.func.vjp(function, *primals)  # type: ignore[misc]  # no third without has_aux
    return outputs, pull


def _only(inner: Function, of: tuple[int, ...], inputs: Arrays) -> Function:
    """``inner`` as a function of some of its inputs."""

    def function(*chosen: Tensor) -> tuple[Tensor, ...]:
        full = list(inputs)
        for at, tensor in zip(of, chosen, strict=True):
            full[at] = tensor
        return inner(*full)

    return function

"""A derivative of attention as a function: what it takes, what it gives, and how it came about.

Attention itself takes the tensors of a problem and gives ``context`` and ``lse``. A reverse step turns a
function into the one that gives the gradients of some of its inputs, a forward step into the one that gives
its outputs and their tangents. Steps chain: two reverse steps are double backward, a forward step after a
reverse one is the Hessian times a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sightline.backends.problem import FIELDS
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
    """A derivative of attention.

    Attributes:
        inputs, outputs: what it takes and gives, in order.
        steps: how it came about; none for attention itself.
        before: the function that the last step differentiated.
    """

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    steps: tuple[Step, ...] = ()
    before: Order | None = None

    def reverse(self, of: tuple[int, ...], given: tuple[int, ...], known: tuple[Slot, ...] = ()) -> Order:
        """The gradients of the inputs ``of``, given those of the outputs ``given``.

        Args:
            known: outputs that the caller has, after the gradients; not differentiated.
        """
        inputs = (*self.inputs, *(self.outputs[at] for at in given), *known)
        outputs = tuple(self.inputs[at] for at in of)
        return Order(inputs, outputs, (*self.steps, Step("reverse", of, given)), self)

    def forward(self, of: tuple[int, ...]) -> Order:
        """The outputs and their tangents, given tangents of the inputs ``of``."""
        inputs = (*self.inputs, *(self.inputs[at] for at in of))
        return Order(inputs, self.outputs * 2, (*self.steps, Step("forward", of)), self)

    def shapes(self, arrays: Arrays) -> tuple[tuple[int, ...], ...]:
        """The shapes of its outputs."""
        if self.before is None:
            query, value = arrays[_QUERY], arrays[_VALUE]
            assert query is not None
            assert value is not None
            return (*query.shape[:3], value.shape[3]), tuple(query.shape[:3])
        step = self.steps[-1]
        if step.kind == "forward":
            return self.before.shapes(arrays) * 2
        return tuple(tuple(arrays[at].shape) for at in step.of)  # type: ignore[union-attr]  # given, so there

    def dtypes(self, of_arrays: tuple[torch.dtype | None, ...], lse: torch.dtype) -> tuple[torch.dtype, ...]:
        """The dtypes of its outputs, each that of what it is a derivative of, given the lse's."""
        if self.before is None:
            query = of_arrays[_QUERY]
            assert query is not None
            return query, lse
        step = self.steps[-1]
        if step.kind == "forward":
            return self.before.dtypes(of_arrays, lse) * 2
        return tuple(of_arrays[at] for at in step.of)  # type: ignore[misc]  # given, so there

    def function(self, attention: Function) -> Function:
        """The derivative of ``attention``, a function of the first order's inputs; by ``torch.func``."""
        if self.before is None:
            return attention
        inner, step = self.before.function(attention), self.steps[-1]
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


_QUERY, _VALUE = (at for at, field in enumerate(FIELDS) if field.name in ("query", "value"))
CONTEXT = Slot("context", "BHNE")
LSE = Slot("lse", "BHN")
#: Attention itself: the tensors of a problem, in the order of ``FIELDS``, and the softcap as a tensor.
ATTENTION = Order(
    (
        *(Slot(field.name, field.axes, field.broadcasts, field.gradient) for field in FIELDS),
        Slot("softcap", ""),
    ),
    (CONTEXT, LSE),
)

"""What a measure can be asked about: a matrix, a traced call that holds one, or a sequence of either.

The one place that looks whether a traced call was verified, and that gives a sliced matrix its four axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeGuard

import torch
from torch import Tensor

from sightline.common.check import flag
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import counted, head_mean, visible


class UnverifiedError(ValueError):
    """The matrix was traced, but does not reproduce what the model computed.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2))
        >>> A.reason = "weights times value differ from the context by 0.3"      # as a trace marks it
        >>> sightline.measure.entropy(A)
        Traceback (most recent call last):
            ...
        sightline.measure.subject.UnverifiedError: this call: not verified: weights times value differ ...
    """


class HasMatrix(Protocol):
    """What a traced call is: it holds a matrix, and says whether that was found to be the model's own."""

    @property
    def matrix(self) -> AttentionMatrix:
        """The attention matrix, [B,H,N,M]."""

    @property
    def verified(self) -> bool:
        """Whether the matrix was found to be what the model computed with."""

    @property
    def reason(self) -> str | None:
        """Why not, if not."""


#: What a measure can be asked about.
Measurable = AttentionMatrix | HasMatrix
#: One of them for each layer, first layer first: a trace, or ``outputs.attentions``.
Layers = Measurable | Iterable[Measurable]


class RowOptions(TypedDict, total=False):
    """What every measure takes that has one number for each row; see :func:`measured_rows`."""

    per_query: bool
    queries: Tensor | None
    unverified: bool


@dataclass(frozen=True)
class Measured:
    """A matrix with all four axes, and the shape that results are given in.

    Attributes:
        matrix: [B,H,N,M].
        lead: [B,H], without the axes that an integer index took away.
    """

    matrix: AttentionMatrix
    lead: torch.Size

    def shaped(self, values: Tensor) -> Tensor:
        """[B,H,...] without the axes that an integer index took away."""
        return values.reshape((*self.lead, *values.shape[2:]))


@dataclass(frozen=True)
class MeasuredRows(Measured):
    """A matrix of which each row gets a number.

    Attributes:
        per_query: whether these numbers are the result, instead of their mean.
        queries: which rows the mean counts; ``None`` for all.
    """

    per_query: bool = False
    queries: Tensor | None = None

    def result(self, values: Tensor, possible: Tensor | None = None) -> Tensor:
        """``values`` [B,H,N] as they are, or their mean over the rows that were asked for.

        Args:
            possible: bool [B,H,N], the rows that have a value. Default: those that see a key.
        """
        if possible is None:
            possible = visible(self.matrix).counts > 0
        rows = counted(self.matrix, possible, self.queries)
        return self.shaped(values if self.per_query else head_mean(values, rows))


def measured(A: Measurable, unverified: bool = False) -> Measured:
    """The matrix of ``A`` with all four axes.

    Args:
        A: an AttentionMatrix, or anything whose ``.matrix`` is one. Where it says ``.verified`` and that is
            not True, it is refused with its ``.reason``.
        unverified: takes it all the same.

    Raises:
        TypeError: for anything else; UnverifiedError: for an unverified call.
    """
    if not flag("unverified", unverified):
        _refuse_unverified(A)
    matrix = A if isinstance(A, AttentionMatrix) else getattr(A, "matrix", None)
    if not isinstance(matrix, AttentionMatrix):
        raise TypeError(
            f"measure: expected an AttentionMatrix, got {type(A).__name__}. Make one with "
            "sightline.AttentionMatrix(query, key, value) or sightline.attention(..., return_matrix=True)."
        )
    if matrix is not A and not unverified:
        _refuse_unverified(matrix)
    lead = matrix.shape[:-2]
    return Measured(matrix.four_axes() if len(lead) < 2 else matrix, lead)


def measured_rows(
    A: Measurable,
    *,
    per_query: bool = False,
    queries: Tensor | None = None,
    unverified: bool = False,
    **unknown: Any,
) -> MeasuredRows:
    """The matrix of ``A``, and what is to be made of the numbers of its rows.

    Raises:
        TypeError: for arguments that no measure has; otherwise as :func:`measured`.
    """
    if unknown:
        raise TypeError(
            f"measure: got unexpected arguments {', '.join(unknown)}; besides its own, a measure of rows "
            "takes per_query, queries and unverified."
        )
    one = measured(A, unverified)
    return MeasuredRows(one.matrix, one.lead, flag("per_query", per_query), queries)


def matrices(layers: Layers, unverified: bool = False) -> list[AttentionMatrix]:
    """The matrices of a sequence, one per layer, each with all four axes; one matrix is a sequence of one.

    Raises:
        TypeError: for anything else; ValueError: for an empty sequence; UnverifiedError: as above.
    """
    sequence: Any = [layers] if is_one(layers) else layers
    if not isinstance(sequence, Iterable) or isinstance(sequence, Tensor):
        raise TypeError(
            f"layers: expected a sequence of AttentionMatrix, one per layer, got {type(layers).__name__}."
        )
    each = [measured(layer, unverified).matrix for layer in sequence]
    if not each:
        raise ValueError("layers: expected at least one layer, got none.")
    return each


def is_one(A: Layers) -> TypeGuard[Measurable]:
    """Whether this is one matrix or call, and no sequence; a call is not asked for its matrix."""
    if isinstance(A, AttentionMatrix):
        return True
    return hasattr(type(A), "matrix") or "matrix" in getattr(A, "__dict__", {})


def _refuse_unverified(A: object) -> None:
    verified = getattr(A, "verified", True)
    if verified is True:
        return
    name, reason = getattr(A, "name", None), getattr(A, "reason", None)
    raise UnverifiedError(
        f"{name or 'this call'}: not verified: {reason or 'no reason given'}. "
        "Its weights may not be those of the model; unverified=True measures them all the same."
    )

"""What a measure is taken of: a matrix, a traced call that holds one, or a sequence of either.

The one place that looks whether a traced call was verified, and that gives a sliced matrix its four axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.rows import head_mean


class UnverifiedError(ValueError):
    """The matrix was traced, but does not reproduce what the model computed."""


@dataclass(frozen=True)
class Subject:
    """A matrix with all four axes, and the shape that results are given in.

    Attributes:
        matrix: [B,H,N,M].
        lead: [B,H], without the axes that an integer index took away.
    """

    matrix: AttentionMatrix
    lead: torch.Size

    def shaped(self, found: Tensor) -> Tensor:
        """[B,H,...] without the axes that an integer index took away."""
        return found.reshape((*self.lead, *found.shape[2:]))

    def result(self, values: Tensor, rows: Tensor, per_query: bool) -> Tensor:
        """``values`` [B,H,N] as they are, or their mean over ``rows`` [B,H,N] (bool)."""
        return self.shaped(values if per_query else head_mean(values, rows))


def subject(given: Any, unverified: bool = False) -> Subject:
    """The matrix of ``given`` with all four axes.

    Args:
        given: an AttentionMatrix, or anything whose ``.matrix`` is one. Where it says ``.verified`` and
            that is not True, it is refused with its ``.reason``.
        unverified: takes it all the same.

    Raises:
        TypeError: for anything else. UnverifiedError: for an unverified call.
    """
    if not unverified:
        _refuse_unverified(given)
    matrix = given if isinstance(given, AttentionMatrix) else getattr(given, "matrix", None)
    if not isinstance(matrix, AttentionMatrix):
        raise TypeError(
            f"measure: expected an AttentionMatrix, got {type(given).__name__}. Make one with "
            "sightline.AttentionMatrix(query, key, value) or sightline.attention(..., return_matrix=True)."
        )
    if matrix is not given and not unverified:
        _refuse_unverified(matrix)
    lead = matrix.shape[:-2]
    if len(lead) < 2:
        matrix = AttentionMatrix.of_problem(
            matrix.problem, matrix.lse.reshape(matrix.problem.shape[:3]), detach=False
        )
    return Subject(matrix, lead)


def layers(given: Any, unverified: bool = False) -> list[AttentionMatrix]:
    """The matrices of a sequence, one per layer, each with all four axes; one matrix is a sequence of one.

    Raises:
        TypeError: for what is neither; ValueError: for an empty sequence; UnverifiedError as above.
    """
    if is_one(given):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, Tensor):
        raise TypeError(
            f"layers: expected a sequence of AttentionMatrix, one per layer, got {type(given).__name__}."
        )
    found = [subject(one, unverified).matrix for one in given]
    if not found:
        raise ValueError("layers: expected at least one layer, got none.")
    return found


def is_one(given: Any) -> bool:
    """Whether this is one matrix or call, and no sequence; a call is not asked for its matrix."""
    if isinstance(given, AttentionMatrix):
        return True
    return hasattr(type(given), "matrix") or "matrix" in getattr(given, "__dict__", {})


def _refuse_unverified(given: Any) -> None:
    verified = getattr(given, "verified", True)
    if verified is True:
        return
    name, reason = getattr(given, "name", None), getattr(given, "reason", None)
    raise UnverifiedError(
        f"{name or 'this call'}: not verified: {reason or 'no reason given'}. "
        "Its weights may not be those of the model; unverified=True measures them all the same."
    )

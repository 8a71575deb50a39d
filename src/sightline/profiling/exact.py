"""Sums that do not depend on the order of what is summed.

A float is a whole number times a power of two, so a sum of floats is one large whole number. Each sum is kept
that way, in limbs of 32 bits, all of them in one tensor: adding takes some integer arithmetic on all sums at
once, nothing is rounded, and the same numbers give the same sum in any order, on any number of processes,
interrupted or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

# Sums are whole multiples of 2^-352. What is added is a float32 or the square of one: below 2^256, and at
# least 2^-298, which is 2^52 · 2^-350 as a float64's whole number and power.
_BIAS = 352
_LIMBS = 21
_MASK = (1 << 32) - 1
# A limb takes two numbers below 2^32 from each float: this many floats fit before it must carry.
_BEFORE_CARRY = 1 << 29


class ExactSums:
    """Many sums of float32 numbers or of their squares, given as float64.

    Args:
        count: how many sums.
    """

    def __init__(self, count: int = 0) -> None:
        self._limbs = torch.zeros((count, _LIMBS), dtype=torch.int64)
        self._since_carry = 0

    def __len__(self) -> int:
        return self._limbs.shape[0]

    def extend(self, count: int) -> None:
        """Appends ``count`` sums of 0."""
        self._limbs = torch.cat((self._limbs, self._limbs.new_zeros((count, _LIMBS))))

    def add(self, values: Tensor, places: Tensor) -> None:
        """Adds each column of ``values`` [B,t] (float64, finite) to the sum at ``places`` [t]."""
        if self._since_carry + values.shape[0] > _BEFORE_CARRY:
            self._carry()
        self._since_carry += values.shape[0]
        fraction, exponent = torch.frexp(values)
        whole = (fraction * 2.0**53).long()
        # The place of the power of two; zeros have none and may go anywhere.
        place = (exponent.long() + (_BIAS - 53)).clamp(min=0)
        first = places * _LIMBS
        self._add_whole(whole & ((1 << 27) - 1), place, first)
        self._add_whole(whole >> 27, place + 27, first)

    def _add_whole(self, whole: Tensor, place: Tensor, first: Tensor) -> None:
        """Adds whole · 2^place, |whole| < 2^27: shifted into its limb it stays below 2^59."""
        shifted = whole << (place & 31)
        index = (first + (place >> 5)).flatten()
        flat = self._limbs.view(-1)
        flat.scatter_add_(0, index, (shifted & _MASK).flatten())
        flat.scatter_add_(0, index + 1, (shifted >> 32).flatten())

    def _carry(self) -> None:
        """Brings every limb but the last between 0 and 2^32: the one canonical form of a sum."""
        for k in range(_LIMBS - 1):
            self._limbs[:, k + 1] += self._limbs[:, k] >> 32
            self._limbs[:, k] &= _MASK
        self._since_carry = 1

    def wholes(self) -> list[int]:
        """The sums as whole multiples of 2^-352."""
        self._carry()
        return [sum(limb << (32 * k) for k, limb in enumerate(row)) for row in self._limbs.tolist()]

    def add_wholes(self, wholes: Sequence[int], places: Sequence[int]) -> None:
        """Adds sums given as whole multiples of 2^-352.

        Raises:
            ValueError: for one that is out of range.
        """
        rows = []
        for whole in wholes:
            top = whole >> (32 * (_LIMBS - 1))
            if not -(1 << 62) < top < (1 << 62):
                raise ValueError("a sum is out of range")
            rows.append([(whole >> (32 * k)) & _MASK for k in range(_LIMBS - 1)] + [top])
        self._carry()
        if rows:
            self._limbs.index_add_(0, torch.tensor(places), torch.tensor(rows))
        self._carry()

    def fractions(self) -> list[Fraction]:
        """The sums, exactly."""
        return [Fraction(whole, 1 << _BIAS) for whole in self.wholes()]

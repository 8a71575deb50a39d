"""How large a page becomes, known before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightline.reading.errors import InputError

if TYPE_CHECKING:
    from sightline.matrix import AttentionMatrix

PAGE_LIMIT = 200_000_000
"""Bytes of queries and keys that a page is made of at most: what browsers open without complaint."""

_BASE64 = 4 / 3


def check_page_size(matrices: Sequence[AttentionMatrix]) -> None:
    """Check that a browser can open the page.

    Raises:
        InputError: the matrices take more than ``PAGE_LIMIT``.
    """
    sizes = [least_bytes(matrix) for matrix in matrices]
    if sum(sizes) > PAGE_LIMIT:
        longest = max(matrix.shape[3] for matrix in matrices)
        raise InputError(
            f"{len(matrices)} calls of up to {longest} keys make a page of at least "
            f"{sum(sizes) / 1e6:.0f} MB, over the limit of {PAGE_LIMIT / 1e6:.0f} MB; choose some with "
            f"layers=[...] (one takes up to {max(sizes) / 1e6:.0f} MB), or trace a shorter input"
        )


def least_bytes(matrix: AttentionMatrix) -> float:
    """The least bytes of a page that one batch entry of a matrix takes: its queries, keys and rows."""
    problem = matrix.problem
    b, h, n, _ = problem.shape
    numbers = (problem.query.numel() + problem.key.numel()) // b
    return (numbers * 2 + h * n * 8) * _BASE64

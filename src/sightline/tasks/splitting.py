"""Parts of the data, drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
Key = Callable[[T], Hashable]


def split(
    examples: Sequence[T], seed: int, share: float = 0.1, key: Key[T] | None = None
) -> tuple[list[T], list[T]]:
    """(the rest, a share of them); those with the same key stay together."""
    groups = _groups(examples, key)
    order = _order(len(groups), seed)
    return _parted(examples, groups, order[: max(1, round(share * len(groups)))])


def fold(
    examples: Sequence[T], number: int, of: int, seed: int, key: Key[T] | None = None
) -> tuple[list[T], list[T]]:
    """(training part, test part) of a cross-validation; those with the same key stay together."""
    groups = _groups(examples, key)
    return _parted(examples, groups, _order(len(groups), seed)[number::of])


def _order(count: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def _groups(examples: Sequence[T], key: Key[T] | None) -> list[list[int]]:
    """Indices of examples with the same key, in order of first appearance."""
    if key is None:
        return [[at] for at in range(len(examples))]
    groups: dict[Hashable, list[int]] = {}
    for at, example in enumerate(examples):
        groups.setdefault(key(example), []).append(at)
    return list(groups.values())


def _parted(examples: Sequence[T], groups: list[list[int]], chosen: list[int]) -> tuple[list[T], list[T]]:
    held = {at for group in chosen for at in groups[group]}
    return (
        [example for at, example in enumerate(examples) if at not in held],
        [examples[at] for at in sorted(held)],
    )

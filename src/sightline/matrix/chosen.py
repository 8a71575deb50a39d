"""What an index chooses of a matrix: some whole batch entries and heads, or a part to compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.matrix.indexing import ALL, Entry, runs


def all_of(entry: Entry | None, length: int) -> bool:
    """Whether an entry leaves its axis as it is."""
    return isinstance(entry, slice) and range(length)[entry] == range(length)


def lead_axes(
    entries: Sequence[Entry | None], dropped: tuple[bool, bool]
) -> tuple[Entry, Entry, tuple[bool, bool]] | None:
    """What the entries before the rows choose, if it is whole matrices again: [B,H,N,M] or fewer axes.

    Args:
        entries: of the axes that are there, and ``None`` for new ones.
        dropped: whether the batch and the head axis are not there.

    Returns:
        The batch entries, the heads, and which of the two axes the result does not have; ``None`` where the
        result has other axes.
    """
    letters = iter([letter for letter, gone in zip("BH", dropped, strict=True) if not gone])
    chosen: dict[str, Entry] = {"B": ALL, "H": ALL}
    axes: list[str] = []  # of the result: new ones are "", and fit anywhere
    for entry in entries:
        letter = "" if entry is None else next(letters)
        if entry is not None:
            chosen[letter] = entry
        if not isinstance(entry, int):
            axes.append(letter)
    tensors = [entry for entry in chosen.values() if isinstance(entry, Tensor)]
    if len(tensors) > 1 or any(entry.dim() != 1 for entry in tensors) or len(axes) > 2:
        return None
    if len(axes) == 2 and not (axes[0] in "B" and axes[1] in "H"):
        return None
    gone = {0: (True, True), 1: (axes != ["B"], axes == ["B"]), 2: (False, False)}[len(axes)]
    return chosen["B"], chosen["H"], gone


def needed_part(
    entries: Sequence[Entry | None], letters: Sequence[str]
) -> tuple[dict[str, Any], list[Entry | None]]:
    """The smallest part that holds what is chosen, and the entries that choose it from that part.

    Args:
        entries: of the axes, and ``None`` for new ones.
        letters: the axes.

    Returns:
        By axis, what of it is needed: for B and H a slice or distinct places, for N and M ranges of them; and
        the entries within these.
    """
    needed: dict[str, Any] = {}
    within: list[Entry | None] = []
    axes = iter(letters)
    for entry in entries:
        if entry is None:
            within.append(None)
            continue
        letter = next(axes)
        if isinstance(entry, Tensor):
            some, local = runs(entry) if letter in "NM" else entry.unique(return_inverse=True)
        else:
            some, local = (slice(entry, entry + 1, 1), 0) if isinstance(entry, int) else (entry, ALL)
            some = [some] if letter in "NM" else some
        needed[letter] = some
        within.append(local)
    return needed, within


def entry_count(shape: Sequence[int], entries: Sequence[Entry | None]) -> int:
    """How many numbers the entries choose from a tensor of that shape."""
    there = [entry for entry in entries if entry is not None]
    whole = [size for size, entry in zip(shape, there, strict=True) if isinstance(entry, slice)]
    tensors = [entry.shape for entry in there if isinstance(entry, Tensor)]
    try:
        return math.prod([*torch.broadcast_shapes(*tensors), *whole])
    except RuntimeError:
        raise IndexError(f"index: shapes {[list(one) for one in tensors]} do not broadcast.") from None

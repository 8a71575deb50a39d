"""Room for the rows of a cache: tensors [B,G,capacity,...] that are written to past what anybody has seen."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.nn.key_scores import runs


def empty(like: Tensor, batch: int, capacity: int) -> Tensor:
    """Zeros [batch,G,capacity,D]: padding that a mask hides must not be NaN. Written to in any grad mode."""
    with torch.inference_mode(False):
        return like.new_zeros((batch, like.shape[1], capacity, like.shape[3]), requires_grad=False)


def grown(old: Tensor | None, step: Tensor, capacity: int, length: int) -> Tensor:
    """Room for rows like those of a step, with the first ``length`` rows of the old one."""
    room = empty(step, step.shape[0], capacity)
    if old is not None and length:
        room.data[:, :, :length] = old[:, :, :length]
    return room


def entries_of(old: Tensor, indices: list[int], length: int) -> Tensor:
    """Room of the same capacity with some batch entries, one after another."""
    room = empty(old, len(indices), old.shape[2])
    where = torch.tensor(indices, dtype=torch.int64, device=old.device)
    room.data[:, :, :length] = old[:, :, :length].index_select(0, where)
    return room


def filled_with(rows: Tensor, counts: list[int], capacity: int) -> Tensor:
    """Room that begins with the rows [B,G,K,...], zeros past each entry's own."""
    b, g, _, width = rows.shape
    with torch.inference_mode(False):
        room = rows.new_empty((b, g, capacity, width), requires_grad=False)
    for first, last in runs(counts):
        room.data[first:last, :, : counts[first]] = rows[first:last, :, : counts[first]]
        room.data[first:last, :, counts[first] :] = 0
    return room


def write(room: Tensor, step: Tensor, filled: list[int], counts: list[int], shown: list[int]) -> None:
    """Puts the first ``counts[b]`` rows of entry b at ``filled[b]``.

    Rows that no view shows yet are written past autograd's version counter: nothing that anyone holds
    changes. Overwriting bumps it, so that whoever kept a view can tell.
    """
    with torch.no_grad():
        for first, last in runs(filled, counts, shown):
            at, count = filled[first], counts[first]
            target = room if at < shown[first] and count else room.data
            target[first:last, :, at : at + count] = step.detach()[first:last, :, :count]

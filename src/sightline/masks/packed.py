"""Packed documents: several texts in one row, which do not see each other.

Letters: B batch, N queries, M keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, is_eager, shown
from sightline.masks.mask import Lowered, Mask, Shape
from sightline.positions import key_ranges


@dataclass(eq=False)
class Documents(Mask):
    """Queries and keys of the same document id; ids stand in contiguous runs."""

    ids: Tensor
    key_ids: Tensor | None

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        query_ids, key_ids = self._checked(shape, device)
        return query_ids[:, None, :, None] == key_ids[:, None, None, :]

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        query_ids, key_ids = self._checked(shape, device)
        rows = max(query_ids.shape[0], key_ids.shape[0])
        query_ids, key_ids = query_ids.expand(rows, -1).contiguous(), key_ids.expand(rows, -1)
        # A label's keys are one run, so its first key and its count say where the run lies.
        labels, order = key_ids.sort(dim=-1, stable=True)
        first = torch.searchsorted(labels, query_ids)
        count = torch.searchsorted(labels, query_ids, right=True) - first
        inside = first.clamp(max=max(0, shape[3] - 1))
        low = order.gather(-1, inside) if shape[3] else torch.zeros_like(first)
        return Lowered(key_ranges.one(low[:, None], (low + count)[:, None], shape[3]), None)

    def _checked(self, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
        b, _, n, m = shape
        if self.key_ids is None and n != m:
            raise ValueError(
                f"documents: ids alone need as many queries as keys, got N={n} and M={m}. "
                "Give the keys' ids as well: documents(query_ids, key_ids)."
            )
        keys = self.ids if self.key_ids is None else self.key_ids
        return self._fit("ids", self.ids, b, n, device), self._fit("key_ids", keys, b, m, device)

    def _fit(self, name: str, ids: Tensor, b: int, length: int, device: torch.device) -> Tensor:
        check_device(f"documents {name}", ids, device)
        if (ids.dim() == 2 and ids.shape[0] not in (1, b)) or ids.shape[-1] != length:
            raise ValueError(
                f"documents: {name} has shape {list(ids.shape)}, but the axis has length {length} "
                f"and the batch B={b}. Give [{length}] or [{b}, {length}] ids."
            )
        return ids if ids.dim() == 2 else ids[None]


def documents(ids: Tensor, key_ids: Tensor | None = None) -> Mask:
    """Packed documents: a query sees the keys that carry its own document id.

    Args:
        ids: [N] or [B,N] integers >= 0 in contiguous runs; the labels may come in any order.
        key_ids: [M] or [B,M], where the keys' ids differ from the queries'; needed when N != M.

    Raises:
        ValueError: for a negative id, or an id that comes back after another one.

    Example:
        >>> import sightline, torch
        >>> mask = sightline.documents(torch.tensor([7, 7, 2]))
        >>> mask.visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    _check_document_ids("ids", ids, runs=key_ids is None)
    if key_ids is not None:
        _check_document_ids("key_ids", key_ids, runs=True)
    return Documents(ids, key_ids)


def _check_document_ids(name: str, ids: Tensor, runs: bool) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(
            f"documents {name}: expected an integer tensor [N] or [B,N], got {shown(ids)}. "
            "Use torch.as_tensor."
        )
    check_integers(f"documents {name}", ids)
    if ids.dim() not in (1, 2):
        raise ValueError(f"documents: {name} must be [N] or [B,N], got shape {list(ids.shape)}.")
    if not is_eager(ids) or not ids.numel():
        return
    if int(ids.min()) < 0:
        raise ValueError(f"documents: ids must be 0 or more, got {int(ids.min())} in {name}.")
    for row in ids.reshape(-1, ids.shape[-1]) if runs else ():
        labels = torch.unique_consecutive(row)
        again = labels.sort().values
        repeated = again[1:][again[1:] == again[:-1]]
        if repeated.numel():
            raise ValueError(
                f"documents: id {int(repeated[0])} in {name} comes back after another id; "
                "each document must be one contiguous run. Sort the tokens by document, or use dense()."
            )

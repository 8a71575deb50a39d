"""Attention with more leading axes than a batch and heads: windows, [B,H,W,N,D], belong to the batch."""

from __future__ import annotations

from torch import Tensor

from sightline.tracing.caught import CaughtCall
from sightline.tracing.layout import heads_among


def heads_apart(caught: CaughtCall, number: int | None) -> None:
    """Brings the heads behind the windows, in place, where the module says which axis they are."""
    lead = caught.lead
    chosen = heads_among(lead, number)
    if not chosen or chosen == [len(lead) - 1] or len({t.shape[1] for t in (caught.query, caught.key)}) > 1:
        return
    order = [axis for axis in range(len(lead)) if axis not in chosen] + chosen
    count = 1
    for axis in chosen:
        count *= lead[axis]

    def apart(tensor: Tensor) -> Tensor:
        rest = tensor.shape[2:]
        tensor = tensor.reshape(*lead, *rest).permute(*order, len(lead), len(lead) + 1)
        return tensor.reshape(-1, count, *rest)

    caught.query, caught.key, caught.value = map(apart, (caught.query, caught.key, caught.value))
    if caught.context is not None:
        caught.context = apart(caught.context)
    whole = (caught.query.numel() // max(1, count * caught.query.shape[2] * caught.query.shape[3]), count)
    before = (whole[0] * whole[1] // lead[-1], lead[-1])
    for masks in (caught.added, caught.visible, caught.hidden):
        masks[:] = [m if m.shape[:2] == (1, 1) else apart(m.expand(*before, -1, -1)) for m in masks]
    if caught.output is not None:
        output, view = caught.output
        caught.output = (output, lambda gradient: apart(view(gradient)))

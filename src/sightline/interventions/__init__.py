"""Changing what a model looks at.

``intervention`` is the block, ``changer`` its recorder, ``changes`` and ``selection`` say what is changed,
``masking``, ``looking`` and ``joining`` make problems of it, ``gradients`` leads gradients through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sightline.interventions.intervention import Intervention

__all__ = ["intervene"]


def intervene(model: nn.Module | Callable[..., Any] | None) -> Intervention:
    """Changes what a model looks at while a block runs: edges, heads, patterns, values.

    The model is not touched: each attention call is caught as :func:`sightline.trace` catches it, whatever
    the model is written with, its context is computed anew with the changes, and the model goes on with
    that. Gradients flow through the change. Leaving the block ends it, after an error too. A trace in or
    around the block sees the changed matrices.

    Args:
        model: the model; only calls inside it are changed. ``None``, or a function: every call of the block.

    Returns:
        A context manager with the changes, which compose in the order in which they are given:
        ``block(layer, head, queries, keys)``: these queries may not see these keys;
        ``scale(layer, head, keys, by)``: weights times ``by``, rows sum to 1 again;
        ``set(layer, head, queries, keys, to)``: these keys get that weight; the others share the rest;
        ``ablate(layer, head, how)``: the head's context is 0, its mean, that of uniform weights, or a tensor;
        ``replace(layer, head, weights=)``: the pattern of another run;
        ``patch(layer, head, stage=, positions=, value=)``: queries, keys, values or contexts of another run.

        ``layer`` is what :func:`sightline.trace` takes as ``layers``; ``head``, ``queries``, ``keys``,
        ``positions`` and ``batch`` are indices, lists, ranges or slices, ``None`` for all. Positions count in
        the whole sequence, with a cache too; negative ones from the end of what there is by then.

    Raises:
        ValueError: for layers, heads and entries that do not exist, a call that cannot be explained by an
            attention matrix, and, when the block ends, for what no call met. TypeError for another kind of
            argument. NotImplementedError: under transforms of torch.func.

    Compiled models run uncompiled in the block. Where a backward pass computes parts of a model again
    (checkpoints), it belongs into the block.

    Example:
        >>> import sightline, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
        >>> with torch.no_grad(), sightline.intervene(layer) as change:
        ...     change.block(layer=0, head=1, keys=[2, 3])
        ...     with sightline.trace(layer) as trace:
        ...         output = layer(torch.randn(1, 5, 16))
        >>> trace[0].matrix[0, 1, :, 2:4].sum().item(), trace[0].verified
        (0.0, True)
    """
    from sightline.interventions.intervention import Intervention

    return Intervention(model)

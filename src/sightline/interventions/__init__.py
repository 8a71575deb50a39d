"""Changing what a model looks at, and asking what that does.

``intervention`` is the block, ``changer`` its recorder, ``changes`` and ``selection`` say what is changed,
``masking``, ``looking`` and ``joining`` make problems of it, ``gradients`` leads gradients through.

``asking`` removes one thing after another (``removals``), several at once (``stacking``), and layers before
them give what they gave (``replaying``); ``result`` is what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from sightline.interventions.intervention import Intervention
    from sightline.interventions.result import Effects
    from sightline.tracing.choice import Layers

__all__ = ["effects", "intervene"]


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


def effects(
    model: Any,
    inputs: Any,
    metric: Callable[[Any], Any] | None = None,
    of: str = "heads",
    *,
    how: str | Tensor | float = "zero",
    edges: Sequence[tuple[Any, ...]] | None = None,
    layers: Layers | None = None,
    path: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
    tokens: Sequence[str] | None = None,
    about: str | None = None,
) -> Effects:
    """What each head, layer, token or edge does to a number: how it changes when that is removed.

    ``change = metric(model without it) - metric(model)``: negative where the thing had raised the metric.

    Removals run side by side in one batch where the inputs have a batch axis, and layers before the removed
    thing are not computed again. Both are compared with a plain run first, and given up where they differ.

    Args:
        model: any model that :func:`sightline.trace` catches, in eval mode; or a pipeline of
            :func:`sightline.pipeline`, whose ``inputs`` are texts and whose metric is its answer.
        inputs: a tensor, a tuple of arguments, a dictionary of named ones, or a list of these: several texts.
        metric: makes a number of the model's output: a logit, a loss, a probability. It is called with the
            output of one input, whatever ran in one batch.
        of: "heads": each head of each layer; "layers": all heads of a layer at once; "tokens": no other token
            sees this one, in any layer; "edges": those in ``edges``.
        how: what a removed head or layer gives: see ``ablate`` of :func:`sightline.intervene`.
        edges: (layer, head, query, key), the layer by place or name, the head ``None`` for all.
        layers: which layers, as in :func:`sightline.trace`. Default: all.
        path: a JSON file that is written as the work goes on; what it holds is not computed again.
        progress: a bar at a terminal; or a function of (done, total).
        tokens: what the tokens are called.
        about: what the metric is called.

    Returns:
        :class:`Effects`: ``values`` ([layers, heads], [layers], [N] or [edges]), ``intervals`` over several
        texts, ``baseline``, ``suggested`` (what the weights suggest) and their rank ``correlation``,
        ``table()``, ``plot()``, ``save()``. After Ctrl-C what is done, with ``complete`` False.

    Raises:
        ValueError: for a model in training, attention that cannot be explained, texts that run through
            different layers, edges that do not exist, a file of another question; TypeError for arguments of
            another kind.

    Sources: Michel, Levy & Neubig 2019, "Are sixteen heads really better than one?" (heads removed); Jain &
    Wallace 2019, "Attention is not explanation" (beside what the weights suggest).

    Example:
        >>> import sightline, torch
        >>> _ = torch.manual_seed(0)
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
        >>> model = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
        >>> x = torch.randn(1, 5, 16)
        >>> found = sightline.effects(model, x, lambda output: output[0, 0, 0])
        >>> found.values.shape, found.complete
        (torch.Size([3, 2]), True)
    """
    from sightline.interventions.asked import effects_of

    return effects_of(model, inputs, metric, of, how, edges, layers, path, progress, tokens, about)

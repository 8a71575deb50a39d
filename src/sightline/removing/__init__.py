"""What each part of a model does to a number: it is removed, and the number asked again.

``arguments`` checks what is asked, ``scope`` lists what is removed, ``text`` runs the model on one input,
``work`` goes through all of it. Several removals run at once (``stacking``, ``removals``), and layers before
them give what they gave (``replaying``); ``result`` is what comes of it. ``question`` is what a pipeline can
be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from sightline.removing.result import Effects
    from sightline.tracing.choice import Layers

__all__ = ["effects"]


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
    from sightline.removing.arguments import effects_of

    return effects_of(model, inputs, metric, of, how, edges, layers, path, progress, tokens, about)

"""``sightline.monitor``: watches the attention of a model while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sightline.monitoring.alarms import Alarm
from sightline.monitoring.limits import Limits

if TYPE_CHECKING:
    from torch import nn

    from sightline.monitoring.training import Monitor
    from sightline.tracing.choice import Layers


def monitor(
    model: nn.Module,
    every: int = 100,
    to: Any = None,
    *,
    layers: Layers | None = None,
    batch_entries: int | None = None,
    limits: Limits | None = None,
    on_alarm: Callable[[Alarm], object] | None = None,
    start: int = 0,
) -> Monitor:
    """Logs entropy, largest logit, sink mass and dead heads of each layer, every k training steps.

    Warns (:class:`AttentionWarning`) when attention entropy collapses or logits explode. What the model
    computes, and so the training, stays the same to the last bit; an error in the monitor itself is reported
    once, as a warning, and never ends the training. With dropout in the attention, the weights before dropout
    are measured.

    Args:
        model: the module that the training loop calls; a compiled one as ``torch.compile`` returned it.
        every: k, in steps; see :class:`~sightline.monitoring.training.Monitor` for what a step is.
        to: where the numbers go: the path of a CSV file (an existing one is continued), a TensorBoard
            ``SummaryWriter``, a W&B run, a function of (step, list of
            :class:`~sightline.monitoring.layer_attention.LayerAttention`), or a list of these. Default: only
            to ``monitor.last``.
        layers: which layers, as for :func:`sightline.trace`. Default: all.
        batch_entries: how many entries of a batch are measured, from the first on. Default: all.
        limits: when to warn, and what counts as a dead head; see :class:`Limits`.
        on_alarm: called with each :class:`Alarm`, after the warning; what it raises ends the training.
        start: the number of the first step, for a training that is continued.

    Raises:
        TypeError, ValueError: for invalid arguments, or a CSV file with other columns; OSError: for a path
        that cannot be written.

    Example:
        >>> import sightline, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
        >>> with sightline.monitor(layer, every=10) as monitor:
        ...     for _ in range(3):
        ...         _ = layer(torch.randn(2, 5, 16))
        ...         monitor.step()
        >>> monitor.last[0].name, sorted(monitor.last[0].summary())[:3]
        ('self_attn', ['dead_heads', 'entropy', 'entropy_min'])
    """
    from sightline.monitoring.training import Monitor

    return Monitor(
        model, every, to, layers, batch_entries, Limits() if limits is None else limits, on_alarm, start
    )

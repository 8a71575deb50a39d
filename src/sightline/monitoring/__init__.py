"""Watching attention while a model trains.

``training`` counts steps and looks at every k-th forward pass, ``measuring`` says what is measured of a call,
``alarms`` what is reported at once, ``writers`` where the rest goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sightline.monitoring.alarms import Alarm, AttentionWarning, Limits

if TYPE_CHECKING:
    from torch import nn

    from sightline.monitoring.training import Monitor
    from sightline.tracing.choice import Layers

__all__ = ["Alarm", "AttentionWarning", "Limits", "monitor"]


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

    Looks at one forward pass in training mode of every k-th step, from the first on, through
    :func:`sightline.trace`; between them it only counts. What the model computes, and so the training, is the
    same to the last bit. It warns (:class:`AttentionWarning`) when attention entropy collapses or logits
    explode. Its own failures are warned of once and never end the training.

    With dropout in the attention the weights before dropout are measured.

    Args:
        model: the module that the training loop calls; a compiled one as ``torch.compile`` returned it (it
            runs uncompiled in the passes that are looked at).
        every: k, in steps: calls of ``monitor.step()`` where they are made, else forward passes in training
            mode.
        to: where the numbers go: the path of a CSV file (continued if it is there), a TensorBoard
            ``SummaryWriter``, a W&B run, a function of (step, list of
            :class:`~sightline.monitoring.measuring.LayerAttention`), or a list of these. Default: nowhere but
            ``monitor.last``.
        layers: which layers, as for :func:`sightline.trace`. Default: all.
        batch_entries: how many of a batch's first entries are measured. Default: all.
        limits: when to warn, and what counts as a dead head; see :class:`Limits`.
        on_alarm: called with each :class:`Alarm`, after the warning; what it raises ends the training.
        start: the number of the first step, of a training that is continued.

    Returns:
        The monitor, at work until ``close()`` or the end of its ``with`` block.

    Raises:
        TypeError, ValueError: for arguments that cannot be, a CSV file with other columns; OSError: for a
        path that cannot be written.

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
        model,
        every,
        to,
        layers=layers,
        batch_entries=batch_entries,
        limits=limits or Limits(),
        on_alarm=on_alarm,
        start=start,
    )


# ``sightline.monitor`` is the function, so that what belongs to it is found there, too.
monitor.Alarm, monitor.AttentionWarning, monitor.Limits = Alarm, AttentionWarning, Limits  # type: ignore[attr-defined]

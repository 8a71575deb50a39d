"""Seeing into any model: its attention calls, caught as they run.

``recording`` is the block, ``calls`` what came of it, ``recorder`` the mechanism (and why it is that one).
``eager``, ``fused``, ``fast_paths`` and ``flex`` recognise attention, ``caught`` is what they hand over,
``lowering`` makes a problem of it, ``verify`` checks it, ``keep`` and ``stitch`` hold what is needed of it,
``saving`` and ``loading`` are the file, ``parts`` the files of several processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from sightline.tracing.call import AttentionCall
    from sightline.tracing.choice import Layers
    from sightline.tracing.loading import SavedTrace
    from sightline.tracing.recording import Trace

__all__ = ["load_trace", "trace"]


def trace(
    model: nn.Module | Callable[..., Any] | None,
    layers: Layers | None = None,
    offload: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    gradients: bool = False,
    stitch: bool = True,
    on_call: Callable[[AttentionCall], object] | None = None,
    residual: bool = False,
) -> Trace:
    """Catches every attention call of a model while a block runs, whatever the model is written with.

    Nothing in the model or in its output is changed. Each call is an :class:`AttentionCall` with the
    qualified name of its module, "self" or "cross", and an exact, lazy :class:`sightline.AttentionMatrix`,
    detached and linear in the sequence. A sample of rows of weights · value is compared with the context that
    the model computed; calls that differ, or that cannot be explained, are listed with ``verified`` False and
    a ``reason``. A trace stays usable after its block.

    Args:
        model: the model; only calls inside it are caught. ``None``, or a function: every call of the block.
        layers: which layers: a module's name with everything inside it, a glob, the i-th layer with
            attention, a list of these, or a function of the name. Default: all.
        offload: where queries, keys and values are kept: "cpu", or "disk" (memory-mapped temporary files
            that vanish with the trace). Default: where they are, mostly without a copy.
        dtype: what they are kept as. Default: as they are.
        gradients: whether to collect the gradient of each context in a backward pass, in
            ``call.gradient``; needed for relevance.
        stitch: whether steps of a generation with a cache become one matrix for each layer.
        on_call: takes each call as it runs, instead of the trace, which then holds none: whatever the
            function does not keep is freed. Steps are not stitched.
        residual: whether to keep what each layer writes to the residual stream, which ``trace.why`` and
            ``trace.lens`` need: two vectors for each position and layer. For models of
            :mod:`sightline.models` and stacks of :mod:`sightline.nn`, and for the lens also causal and masked
            models of Transformers.

    Returns:
        The trace: a context manager, and a sequence of calls: ``len(trace)``, ``trace[3]``,
        ``trace["encoder.layer.3"]``, ``for call in trace``.

    Raises:
        ValueError: for names that the model does not have, layers that never ran (when the block ends), or
            an unknown ``offload``, or ``residual`` of a model whose stream is not known; TypeError for
            another kind of argument.

    Compiled models run uncompiled while a trace is open. Traces can be nested; a thread sees its own only.

    Example:
        >>> import sightline, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
        >>> with torch.no_grad(), sightline.trace(layer) as trace:
        ...     output = layer(torch.randn(1, 5, 16))
        >>> trace[0].name, trace[0].kind, trace[0].verified, tuple(trace[0].matrix.shape)
        ('self_attn', 'self', True, (1, 2, 5, 5))
    """
    from sightline.tracing.recording import Trace

    return Trace(
        model,
        layers,
        offload,
        dtype=dtype,
        gradients=gradients,
        stitch=stitch,
        on_call=on_call,
        residual=residual,
    )


def load_trace(path: str | Path) -> SavedTrace:
    """Reads a trace that was saved, memory-mapped, without its model.

    Args:
        path: a file that ``trace.save(path)`` wrote. Where several processes wrote one part each, the path
            that they gave, or any of the parts: the trace is that of the whole.

    Returns:
        The calls, as in the trace itself, with ``tokens``, ``model`` and ``versions``.

    Raises:
        ValueError: for a file that is truncated, corrupt, of an unknown version, or no trace at all, and for
            a folder; FileNotFoundError for no file; TypeError for no path. Nothing in a file is executed.

    Example:
        >>> import sightline, tempfile, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
        >>> with torch.no_grad(), sightline.trace(layer) as trace:
        ...     output = layer(torch.randn(1, 5, 16))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trace.save(f"{folder}/trace.safetensors")
        ...     saved = sightline.load_trace(f"{folder}/trace.safetensors")
        ...     saved[0].name, saved[0].matrix.dense().equal(trace[0].matrix.dense())
        ('self_attn', True)
    """
    from sightline.common import check
    from sightline.tracing.loading import load

    return load(check.path("path", path))

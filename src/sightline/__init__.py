"""Sightline: exact self-attention, fast, linear in memory, and open to be looked into at any length."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sightline._version import __version__
from sightline.backends import backend
from sightline.biases import Bias, alibi, relative
from sightline.call.attention import attention
from sightline.common import slots
from sightline.masks import Mask, causal, dense, documents, lengths, prefix, ranges, window
from sightline.matrix import AttentionMatrix, Readouts
from sightline.positions.align import Align

__all__ = [
    "Align",
    "AttentionMatrix",
    "Bias",
    "Explanation",
    "Mask",
    "Picture",
    "Readouts",
    "Sound",
    "__version__",
    "accelerate",
    "alibi",
    "attention",
    "backend",
    "causal",
    "dense",
    "documents",
    "effects",
    "explain",
    "info",
    "intervene",
    "keep_freed_memory",
    "lengths",
    "load_profile",
    "load_trace",
    "monitor",
    "pipeline",
    "prefix",
    "product",
    "profile",
    "ranges",
    "relative",
    "sdpa_override",
    "trace",
    "widget",
    "window",
]

if TYPE_CHECKING:
    from pathlib import Path

    from sightline import distributed as distributed
    from sightline import huggingface as huggingface
    from sightline import losses as losses
    from sightline import measure as measure
    from sightline import models as models
    from sightline import nn as nn
    from sightline.call.explain import Explanation, explain
    from sightline.call.info import info
    from sightline.call.sdpa import sdpa_override
    from sightline.interventions import intervene
    from sightline.monitoring import monitor
    from sightline.nn.acceleration import accelerate
    from sightline.products import keep_freed_memory, product
    from sightline.profiling import load_profile, profile
    from sightline.tasks import pipeline
    from sightline.tracing import load_trace, trace
    from sightline.tracing.calls import Calls
    from sightline.tracing.media import Picture, Sound
    from sightline.view.widget import widget


def _html_of_matrix(matrix: AttentionMatrix) -> str:
    from sightline.view.notebook import html_of_matrix

    return html_of_matrix(matrix)


def _html_of_trace(trace: Calls) -> str:
    from sightline.view.notebook import html_of_trace

    return html_of_trace(trace)


def _write_report(trace: Calls, path: Path, **options: Any) -> int:
    from sightline.view.trace_page import write_report

    return write_report(trace, path, **options)


def _write_live_page(*asked: Any) -> int:
    from sightline.view.live import write_page

    return write_page(*asked)


def _pretrained(model: Any) -> Any:
    from sightline.huggingface.acceleration import pretrained

    return pretrained(model)


def _residual_recorder(modules: Any, names: Any) -> Any:
    from sightline.attribution.lens.asked import recorder_of

    return recorder_of(modules, names)


def _why(*asked: Any, **options: Any) -> Any:
    from sightline.attribution.asked import why

    return why(*asked, **options)


def _lens(*asked: Any, **options: Any) -> Any:
    from sightline.attribution.lens.asked import lens

    return lens(*asked, **options)


# The view stands above the rooms that call it here; it is loaded when something is shown.
slots.matrix_html.fill(_html_of_matrix)
slots.trace_html.fill(_html_of_trace)
slots.trace_report.fill(_write_report)
slots.live_page.fill(_write_live_page)
slots.pretrained.fill(_pretrained)
slots.residual_recorder.fill(_residual_recorder)
slots.trace_why.fill(_why)
slots.trace_lens.fill(_lens)

# Loaded when first asked for, so that importing sightline stays quick: the name, and the room that has it.
_LATER = {
    "Explanation": "call.explain",
    "Picture": "tracing.media",
    "Sound": "tracing.media",
    "accelerate": "nn.acceleration",
    "distributed": "distributed",
    "effects": "removing",
    "explain": "call.explain",
    "huggingface": "huggingface",
    "info": "call.info",
    "intervene": "interventions",
    "keep_freed_memory": "products",
    "load_profile": "profiling",
    "load_trace": "tracing",
    "losses": "losses",
    "measure": "measure",
    "models": "models",
    "monitor": "monitoring",
    "nn": "nn",
    "pipeline": "tasks",
    "product": "products",
    "profile": "profiling",
    "sdpa_override": "call.sdpa",
    "trace": "tracing",
    "widget": "view.widget",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    room = importlib.import_module(f"sightline.{_LATER[name]}")
    value = room if name == _LATER[name] else getattr(room, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # Whoever asks for all that is named here (help() does) may not have Transformers.
    return sorted(globals().keys() | _LATER.keys() - {"huggingface"})

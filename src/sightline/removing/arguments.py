"""The arguments of ``sightline.effects``, checked, and its bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sightline.common.check import choice, kind, path, shown
from sightline.interventions.changes import HOWS, as_tensor
from sightline.removing.question import Given, given
from sightline.removing.result import Effects
from sightline.removing.work import Asked, Progress, answer

OF = ("heads", "layers", "tokens", "edges")


def effects_of(
    model: Any,
    inputs: Any,
    metric: Callable[[Any], Any] | None,
    of: str,
    how: Any,
    edges: Sequence[tuple[Any, ...]] | None,
    layers: Any,
    where: Any,
    progress: Any,
    tokens: Sequence[str] | None,
    about: str | None,
) -> Effects:
    """See :func:`sightline.effects`."""
    choice("of", of, OF)
    if about is not None:
        kind("about", about, str, "what the metric is called, a str")
    how = _how(how, of)
    if (edges is not None) != (of == "edges"):
        raise ValueError('edges: belong to of="edges", and only to that: (layer, head, query, key) each.')
    if edges is not None and not len(edges):
        raise ValueError("edges: an empty list asks nothing.")
    if hasattr(model, "question"):  # a pipeline
        if metric is not None:
            raise ValueError("metric: a pipeline has its own. Give its model and inputs to use another.")
        questions = [model.question(text) for text in (inputs if isinstance(inputs, list) else [inputs])]
        model, metric = questions[0].model, questions[0].metric
        texts = [given(question.inputs) for question in questions]
        metrics = [question.metric for question in questions]
        tokens = questions[0].tokens if tokens is None else tokens
        about = questions[0].about if about is None and len(questions) == 1 else about
    else:
        texts = _texts(inputs)
        if not callable(metric):
            raise TypeError(f"metric: must be a function of the model's output, got {shown(metric)}.")
        metrics = [metric] * len(texts)
    file = None if where is None else path("path", where)
    asked = Asked(
        model, texts, metrics, of, how, edges or (), layers, file, tuple(tokens or ()), about or "metric"
    )
    with _shown(progress) as told:
        return answer(asked, told)


def _how(how: Any, of: str) -> str | Tensor:
    if isinstance(how, str):
        choice("how", how, HOWS)
        if how != "zero" and of in ("tokens", "edges"):
            raise ValueError(f'how: {of} are hidden, which is "zero"; {how!r} is for heads and layers.')
        return how
    if of in ("tokens", "edges"):
        raise ValueError(f'how: {of} are hidden, which is "zero"; a tensor is for heads and layers.')
    return as_tensor("how", how)


def _texts(inputs: Any) -> list[Given]:
    if isinstance(inputs, list):
        if not inputs:
            raise ValueError("inputs: an empty list has nothing to run.")
        return [given(one) for one in inputs]
    return [given(inputs)]


@contextmanager
def _shown(progress: Any) -> Iterator[Progress]:
    """A bar at a terminal, the caller's function, or nothing."""
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise TypeError(
            f"progress: must be True, False or a function of (done, total), got {shown(progress)}."
        )
    if not progress or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ModuleNotFoundError:
        yield lambda done, total: None
        return
    with Bar(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("removing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

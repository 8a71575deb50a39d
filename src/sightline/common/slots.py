"""Functions that a lower room calls and the top package provides, so that no arrow points upwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Slot(Generic[P, R]):
    """A function to be filled in once, by ``sightline/__init__.py``, and called like any other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Callable[P, R] | None = None

    def fill(self, function: Callable[P, R]) -> None:
        """Sets the function; the latest one counts."""
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._function is None:
            raise RuntimeError(f"{self._name}: nothing fills this slot. Import the package sightline first.")
        return self._function(*args, **kwargs)


#: What a notebook shows of an AttentionMatrix: (matrix) -> HTML.
matrix_html: Slot[[Any], str] = Slot("matrix_html")
#: What a notebook shows of the calls of a trace: (trace) -> HTML.
trace_html: Slot[[Any], str] = Slot("trace_html")
#: What of models of Transformers is accelerated besides layers of PyTorch: (model) -> (classes of layers and
#: ours instead, names of models whose attention was changed, why others were not, what takes that back).
pretrained: Slot[[Any], tuple[dict[type, type], list[str], dict[str, str], list[Callable[[], None]]]] = Slot(
    "pretrained"
)
#: Writes the calls of a trace as a page: (trace, path, title=, layers=, ...) -> its size in bytes.
trace_report: Slot[..., int] = Slot("trace_report")
#: Writes a page that runs a model: (reading, runnable, path) -> its size in bytes.
live_page: Slot[..., int] = Slot("live_page")
#: Keeps what is written to a model's residual streams in a trace: (modules, names by id) -> a listener.
residual_recorder: Slot[[Any, Any], Any] = Slot("residual_recorder")
#: Why a head looks where it does: (trace, what was kept, layer, head, query, key, ...) -> the answer.
trace_why: Slot[..., Any] = Slot("trace_why")
#: What a position's vector says in words: (what was kept, position, ...) -> the answer.
trace_lens: Slot[..., Any] = Slot("trace_lens")

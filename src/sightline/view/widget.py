"""Live in a notebook: the explorer in a frame whose questions the kernel answers, for any length."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any

from sightline.matrix import AttentionMatrix
from sightline.tracing.calls import Calls
from sightline.view.modules import inline, source
from sightline.view.notebook import reading_of_matrix
from sightline.view.report import filled
from sightline.view.server.catalogue import OpenTrace, ServeError, open_calls, open_file, open_reading

_LACKING = 'pip install "sightline[jupyter]" shows it live; A or trace at a cell\'s end needs nothing'


def widget(thing: Calls | AttentionMatrix | str | Path, *, height: int = 720) -> LiveView:
    """The explorer of a trace or a matrix of any length, live in Jupyter and whatever else has anywidget.

    Nothing is copied into the notebook: the kernel computes what is looked at, while no cell runs. Without a
    kernel nothing is seen; a trace or a matrix at the end of a cell shows a page that stays.

    Args:
        thing: what :func:`sightline.trace` caught, a matrix [B,H,N,M], whose first entry is shown, or the
            path of a saved trace.
        height: of the frame, CSS pixels.

    Returns:
        What a cell shows at its end; ``.anywidget`` is the widget itself, for marimo's ``mo.ui.anywidget``.

    Raises:
        TypeError: ``thing`` is something else.
        ValueError: it holds no attention, or the height is not 100 to 10,000.

    Example:
        >>> import sightline, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 8, 20_000, 16), mask=sightline.causal())
        >>> sightline.widget(A)
        LiveView(AttentionMatrix(shape=[1, 8, 20000, 20000], dtype=torch.float32, device=cpu))
    """
    if not 100 <= height <= 10_000:
        raise ValueError(f"widget: height is {height}, expected 100 to 10,000 pixels")
    try:
        return LiveView(_opened(thing), height, str(thing) if isinstance(thing, str | Path) else repr(thing))
    except ServeError as error:
        raise ValueError(f"widget: {error}") from None


def _opened(thing: Calls | AttentionMatrix | str | Path) -> OpenTrace:
    if isinstance(thing, AttentionMatrix):
        whole = thing.four_axes().detach()
        if 0 in whole.shape:
            raise ServeError(f"{thing!r} is empty")
        return open_reading(reading_of_matrix(whole), repr(thing))
    if isinstance(thing, Calls):
        return open_calls(thing, repr(thing))
    if isinstance(thing, str | Path):
        return open_file(Path(thing), Path(thing).name)
    raise TypeError(f"widget: got {type(thing).__name__}, expected a trace, an AttentionMatrix or a path")


class LiveView:
    """What a notebook shows live."""

    def __init__(self, trace: OpenTrace, height: int, what: str) -> None:
        self._trace, self._height, self._what = trace, height, what
        self._asked: dict[tuple[str, int], Event] = {}

    def __repr__(self) -> str:
        return f"LiveView({self._what})"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        try:
            shown = self.anywidget
        except ImportError:
            line = html.escape(f"{self!r}: {_LACKING}")
            return {"text/plain": repr(self), "text/html": f"<p>{line}</p>"}
        return shown._repr_mimebundle_(**options)

    @cached_property
    def anywidget(self) -> Any:
        """The widget: an instance of ``anywidget.AnyWidget``."""
        import anywidget

        made = type("SightlineExplorer", (anywidget.AnyWidget,), {"_esm": source("widget/cell.js")})()
        made.on_msg(lambda widget, content, buffers: self._heard(widget, content))
        return made

    @cached_property
    def _app(self) -> Any:
        from sightline.view.server.app import create_inside_app
        from sightline.view.server.service import Service

        return create_inside_app(Service([self._trace]))

    def _heard(self, widget: Any, said: Mapping[str, Any]) -> None:
        """One of the cells that show this asks for the page, or the page for something."""
        from sightline.view.server.inside import Request, ask

        kind, view = said.get("kind"), str(said.get("view"))
        if kind == "open":
            widget.send({"kind": "page", "view": view, "height": self._height, "page": _page()})
        elif kind == "ask":
            asked = view, int(said["id"])
            request = Request(str(said["method"]), str(said["path"]), (said["body"] or "").encode())
            gone = self._asked[asked] = Event()
            ask(self._app, request, gone, partial(self._answer, widget, asked))
        else:
            for asked in [at for at in self._asked if at[0] == view and said.get("id", at[1]) == at[1]]:
                self._asked.pop(asked).set()

    def _answer(self, widget: Any, asked: tuple[str, int], answer: Any) -> None:
        self._asked.pop(asked, None)
        view, number = asked
        told = {"kind": "answer", "view": view, "id": number, "status": answer.status}
        widget.send({**told, "headers": [list(pair) for pair in answer.headers]}, [answer.body])


def _page() -> str:
    """The page whose questions go to the kernel."""
    return "".join(filled("Sightline", inline("widget/kernel.js") + inline("main.js")))

"""What attention became where somebody changed a call: the latest one of each thread, by its context.

Whoever sees the context next, a matrix that is asked for with it or a trace around it, reads here what it was
made with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor


class _Latest(threading.local):
    """Of each thread its own."""

    def __init__(self) -> None:
        self.context: Tensor | None = None
        self.what: Callable[[], Any] | None = None


_latest = _Latest()


def note(context: Tensor, what: Callable[[], Any]) -> None:
    """The call that made ``context`` was changed; ``what`` says into what, for who asks."""
    _latest.context, _latest.what = context, what


def of(context: Tensor | None) -> Any:
    """What the call that made ``context`` was changed into; ``None`` if it was not changed."""
    if _latest.what is None or _latest.context is not context:
        return None
    return _latest.what()


def forget() -> None:
    """Lets go of the latest one."""
    _latest.context = _latest.what = None

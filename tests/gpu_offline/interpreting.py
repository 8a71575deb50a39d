"""Triton's interpreter without what makes it slow.

Whenever a kernel calls a function, Triton 3.9 looks through its whole language for what to put an interpreted
version in the place of, and leaves it there: that took most of the time.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from triton.runtime import interpreter


def patched_once() -> Any:
    """A context in which each module's language is put in place once, and stays."""
    own, done = interpreter._patch_lang, set[int]()

    def once(function: Any) -> Any:
        if id(function.__globals__) not in done:
            done.add(id(function.__globals__))
            own(function)
        return interpreter._LangPatchScope()

    return mock.patch.object(interpreter, "_patch_lang", once)

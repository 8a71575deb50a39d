"""Triton's interpreter without what makes it slow.

Whenever a kernel calls a function, Triton 3.9 looks through its whole language for what to put an interpreted
version in the place of, and leaves it there: that took most of the time.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest import mock

from triton.runtime import interpreter


def patched_once() -> Any:
    """A context in which each module's language is put in place once, and stays."""
    if not hasattr(interpreter, "_LangPatchScope"):
        return nullcontext()  # another version of Triton, which may be slow
    own, done = interpreter._patch_lang, set[int]()

    def once(function: Any) -> Any:
        if id(function.__globals__) not in done:
            done.add(id(function.__globals__))
            own(function)
        return interpreter._LangPatchScope()

    return mock.patch.object(interpreter, "_patch_lang", once)

"""Windows of a text that a language model learns from; in some of them passages come again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_SHORTEST_PASSAGE = 16  # tokens that come again at least; at most a quarter of what is read at once


class Window(NamedTuple):
    """A stretch of the text and the token after it.

    Attributes:
        ids: [n + 1] token ids.
        parts: how many stretches of the same length it is read in, none of which sees another.
    """

    ids: Tensor
    parts: int

    @property
    def length(self) -> int:
        """Tokens that are read at once."""
        return (len(self.ids) - 1) // self.parts

    def read(self) -> tuple[Tensor, Tensor]:
        """([parts, length] ids, [parts, length] the token after each)."""
        return self.ids[:-1].view(self.parts, -1), self.ids[1:].view(self.parts, -1)


def drawn_windows(
    stream: Tensor, context: int, shortest: int, fill: int, repeats: float, generator: torch.Generator
) -> list[Window]:
    """Windows from a newly drawn start, so that no token is always the first.

    Of every ``context`` tokens the windows have one length, drawn among the context, its half, its quarter
    and so on; so each length reads about as many tokens in all.

    Args:
        stream: [n] ids of the text.
        context: tokens of the longest windows.
        shortest, fill: see :class:`LanguageRecipe`.
        repeats: share of the windows in which passages come again.
        generator: of everything that is drawn.
    """
    start = int(torch.randint(context, (1,), generator=generator))
    windows = []
    for block in range(start, len(stream) - context, context):
        halvings = int(math.log2(context // shortest)) if shortest else 0
        length = (
            context >> int(torch.randint(halvings + 1, (1,), generator=generator)) if halvings else context
        )
        size = max(length, fill or context)
        for at in range(block, block + context, size):
            window = Window(stream[at : at + size + 1], size // length)
            if repeats and float(torch.rand((), generator=generator)) < repeats:
                window = repeated(window, generator)
            windows.append(window)
    return windows


def repeated(window: Window, generator: torch.Generator) -> Window:
    """The window with passages of the text so far put in again and again, after which the text goes on.

    About half of its tokens then stand in it a second time; every part repeats only what stands in itself. A
    part too short for a passage stays as it is.
    """
    length = window.length
    if length // 4 < _SHORTEST_PASSAGE:
        return window
    text, taken, ids = window.ids.tolist(), 0, list[int]()
    while len(ids) < len(text):
        start = len(ids) // length * length
        size = min(_passage(length, generator), start + length - len(ids))
        known = len(ids) - start
        if known >= size and float(torch.rand((), generator=generator)) < 0.5:
            first = start + int(torch.randint(known - size + 1, (1,), generator=generator))
            ids += ids[first : first + size]
        else:
            ids += text[taken : taken + size]
            taken += size
    return Window(torch.tensor(ids[: len(text)]), window.parts)


def _passage(length: int, generator: torch.Generator) -> int:
    """Tokens of a passage: any number up to a quarter of a part, short ones more often."""
    most = length / 4 / _SHORTEST_PASSAGE
    return int(_SHORTEST_PASSAGE * most ** float(torch.rand((), generator=generator)))


def by_length(windows: Sequence[Window]) -> list[tuple[Tensor, Tensor]]:
    """Ids and the tokens after them, [rows, length] each, of all parts of one length together."""
    groups: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for window in windows:
        groups.setdefault(window.length, []).append(window.read())
    return [
        (torch.cat([ids for ids, _ in group]), torch.cat([wanted for _, wanted in group]))
        for group in groups.values()
    ]

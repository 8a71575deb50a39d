"""Kernels, started on the card that holds their tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

#: Programs along a grid's second and third axis, on any card.
MOST_PROGRAMS = 65535


def current(device: torch.device) -> AbstractContextManager[object]:
    """That card as the current one inside the block; Triton asks no tensor where it is."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def launch(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
    """Starts a kernel with arguments by name, where its queries are."""
    with current(arguments["Query"].device):
        kernel[grid](**arguments)

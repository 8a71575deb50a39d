"""What `torch.compile` is told while it compiles for us."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def kinds(limit: int) -> AbstractContextManager[None]:
    """So many kinds of arguments are compiled for; PyTorch's own limit of 8 would fail the ninth."""
    # Until PyTorch 2.7 it had another name.
    name = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    patched: AbstractContextManager[None] = torch._dynamo.config.patch({name: limit})
    return patched

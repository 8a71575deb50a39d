"""Which code computes: ``cpu`` (native) or ``chunked`` (plain PyTorch, any device and dtype)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

from sightline.backends import chunked, cpu
from sightline.backends.problem import Problem
from sightline.common.check import SettingError

BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "chunked": chunked}

_forced: ContextVar[str | None] = ContextVar("sightline_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Forces one backend inside the block; the environment variable SIGHTLINE_BACKEND does so everywhere.

    Args:
        name: ``"cpu"`` (native kernels; float32, bfloat16 and
            float16 on the CPU), ``"chunked"`` (plain PyTorch in blocks; any
            device, any dtype), or ``"auto"``: the native one where it can, the other elsewhere.

    Raises:
        ValueError: for an unknown name. A forced backend that cannot take a problem raises in the call.

    Example:
        >>> import sightline, torch
        >>> q, k, v = torch.randn(3, 1, 2, 5, 4)
        >>> with sightline.backend("chunked"):
        ...     context = sightline.attention(q, k, v)
    """
    token = _forced.set(_known(name, "backend"))
    try:
        yield
    finally:
        _forced.reset(token)


def choose(problem: Problem) -> str:
    """The name of the backend that runs this problem."""
    return decide(problem)[0]


def decide(problem: Problem) -> tuple[str, str | None]:
    """The name of the backend that runs this problem, and why it is not the native one."""
    name = _forced.get() or _known(os.environ.get("SIGHTLINE_BACKEND") or "auto", "SIGHTLINE_BACKEND")
    if name == "auto":
        obstacle = cpu.obstacle(problem)
        return ("cpu", None) if obstacle is None else ("chunked", ". ".join(obstacle))
    reason = BACKENDS[name].why_not(problem)
    if reason is not None:
        raise ValueError(f"backend: {name!r} was asked for, but {reason}. Use backend('auto').")
    asked = "it was asked for by sightline.backend() or SIGHTLINE_BACKEND. Ask for 'auto'"
    return name, asked if name != "cpu" else None


def _known(name: str, source: str) -> str:
    if name != "auto" and name not in BACKENDS:
        raise SettingError(f"{source}: there is no backend {name!r}; known: auto, {', '.join(BACKENDS)}.")
    return name

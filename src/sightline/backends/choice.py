"""Which backend computes: the one place that chooses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from sightline.backends.contract import ATTENTION, Backend, Work
from sightline.backends.problem import Problem
from sightline.backends.wings import WINGS
from sightline.common.check import SettingError

_forced: ContextVar[str | None] = ContextVar("sightline_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Forces one backend inside the block; the environment variable SIGHTLINE_BACKEND does so everywhere.

    What the forced one cannot do of a matrix's readouts, the others do.

    Args:
        name: ``"cpu"`` (native kernels; float32, bfloat16 and
            float16 on the CPU), ``"chunked"`` (plain PyTorch in blocks; any
            device, any dtype), or ``"auto"``: the first that can. ``"triton"`` reads
            matrices alone, on CUDA, and cannot be forced.

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


def names() -> tuple[str, ...]:
    """The names of all backends, in the order in which they are asked."""
    return tuple(wing.name for wing in WINGS)


class Decision(NamedTuple):
    """Which backend runs some work, which one is asked first, and why that does not; ``None`` if it does."""

    backend: Backend
    first: Backend
    reason: str | None


def choose(problem: Problem, work: Work = ATTENTION) -> Backend:
    """The backend that does this work: the first of ``WINGS`` that can, or the forced one."""
    name = _asked()
    for wing in WINGS if name == "auto" else _forced_first(name, problem):
        if wing.why_not(problem, work) is None:
            return wing
    raise _nobody(problem, work)


def asked_first() -> Backend:
    """The backend that :func:`choose` asks first, whatever it can do."""
    name = _asked()
    return WINGS[0] if name == "auto" else next(wing for wing in WINGS if wing.name == name)


def decide(problem: Problem, work: Work = ATTENTION) -> Decision:
    """The same, and why it is not the first of ``WINGS`` that is made for such a device."""
    kind, chosen = problem.query.device.type, choose(problem, work)
    first = next((wing for wing in WINGS if kind in wing.devices), WINGS[0])
    if chosen is first:
        return Decision(chosen, first, None)
    if _asked() == chosen.name:
        asked = "it was asked for by sightline.backend() or SIGHTLINE_BACKEND. Ask for 'auto'"
        return Decision(chosen, first, asked)
    return Decision(chosen, first, str(first.why_not(problem, work)))


def _forced_first(name: str, problem: Problem) -> list[Backend]:
    """The forced backend, then the others; an error where it cannot take the problem at all."""
    forced = next(wing for wing in WINGS if wing.name == name)
    obstacle = forced.why_not(problem, ATTENTION)
    if obstacle is not None:
        raise ValueError(f"backend: {name!r} was asked for, but {obstacle.reason}. Use backend('auto').")
    return [forced, *(wing for wing in WINGS if wing is not forced)]


def _asked() -> str:
    return _forced.get() or _known(os.environ.get("SIGHTLINE_BACKEND") or "auto", "SIGHTLINE_BACKEND")


def _known(name: str, source: str) -> str:
    if name != "auto" and name not in names():
        raise SettingError(f"{source}: there is no backend {name!r}; known: auto, {', '.join(names())}.")
    return name


def _nobody(problem: Problem, work: Work) -> NotImplementedError:
    why = "; ".join(f"{wing.name}: {wing.why_not(problem, work)}" for wing in WINGS)
    return NotImplementedError(f"{work.name}: no backend can do this ({why}).")

"""Time, memory and targets on a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from sightline.bench.session import Row, Session
from sightline.bench.timing import Spent, Timed, clock


def timed(call: Callable[[], object], device: torch.device) -> Timed:
    """A contender for ``take_turns``: on a GPU the time between two events of its stream."""

    def spent(number: int) -> Spent:
        if device.type != "cuda":
            return clock(call, number)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        call()
        begin.record()
        for _ in range(number):
            call()
        end.record()
        torch.cuda.synchronize(device)
        seconds = begin.elapsed_time(end) / 1e3 / number
        return Spent(seconds, seconds)

    return spent


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call takes at most, above what is there before; ``None`` where no GPU counts them."""
    if device.type != "cuda":
        call()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    kept = call()
    torch.cuda.synchronize(device)
    del kept
    return torch.cuda.max_memory_allocated(device) - before


def within(seconds: float, rows: Iterable[Row], session: Session, what: str) -> Iterator[Row]:
    """Rows until the time is spent, in which kernels are compiled as well; the rest is left out, and said."""
    begin = time.perf_counter()
    for row in rows:
        yield row
        if time.perf_counter() - begin > seconds:
            session.note(what, f"stopped after {seconds:.0f} s, behind {row['case']} {row['dtype']}")
            return


def sized(session: Session, *, full: Any, quick: Any, tiny: Any) -> Any:
    """The entry for this run's size; on a CPU the tiny one."""
    if session.device.type == "cpu":
        return tiny
    return session.pick(full=full, quick=quick, tiny=tiny)


def mark(session: Session, value: float | None, target: float, least: bool) -> dict[str, str]:
    """The target, in words, and whether it is met: on a GPU alone."""
    met = None if value is None else (value >= target if least else value <= target)
    words = "not measured" if met is None or session.device.type == "cpu" else ("met" if met else "missed")
    return {"target": f"{'≥' if least else '≤'} {target}", "mark": words}

"""How the native core would run a problem; its own schedule answers."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch

from sightline.backends.contract import Pass, Plan
from sightline.backends.native.pack import copied, pack
from sightline.backends.native.share import computed_share
from sightline.backends.native.structs import PlanStruct
from sightline.backends.problem import Problem
from sightline.core import library as core

# By number, as in the header's sightline_path and sightline_products.
PATHS = ("blocks", "decode")
_PRODUCTS = ("float32", "bfloat16 pairs", "bfloat16 tiles")


class Schedule(NamedTuple):
    """How the core runs a forward call.

    Attributes:
        level: the instruction-set level.
        path: "blocks" (64 queries of one head at a time) or "decode" (few queries, many keys: each key and
            value is read once for all query heads of its group).
        workers: threads that take part.
        parts: pieces of work that they take one by one.
        products: "float32", or "bfloat16 pairs" or "bfloat16 tiles" (AMX) where the machine multiplies those;
            sums are float32.
    """

    level: str
    path: str
    workers: int
    parts: int
    products: str


def schedule_of(problem: Problem) -> Schedule:
    """The core's own answer."""
    packed, alive = pack(problem)
    struct = PlanStruct()
    status = core.library().sightline_plan(
        core.level(),
        torch.get_num_threads(),
        ctypes.byref(packed),
        int(problem.value is not None),
        ctypes.byref(struct),
    )
    core.check(status, "plan")
    del alive
    return Schedule(
        level=core.built_levels()[core.level()],
        path=PATHS[struct.path],
        workers=struct.workers,
        parts=struct.parts,
        products=_PRODUCTS[struct.products],
    )


def plan(problem: Problem) -> Plan:
    """Both passes, with what keeps them from being faster."""
    schedule = schedule_of(problem)
    forward = Pass("cpu", schedule.path, schedule.level, schedule.workers, schedule.products)
    backward = Pass("cpu", "blocks", schedule.level, torch.get_num_threads(), schedule.products)
    reasons = (*_level(schedule), *_threads(schedule), *_copies(problem))
    return Plan(forward, backward, computed_share(problem), reasons)


def _level(schedule: Schedule) -> list[str]:
    here, built = core.levels(), core.built_levels()
    if schedule.level != here[-1]:
        return [
            f"Level {schedule.level}, although this machine can run {here[-1]}: SIGHTLINE_ISA says so. "
            "Unset it."
        ]
    if schedule.level != built[-1]:
        missing = ", ".join(built[built.index(schedule.level) + 1 :])
        return [
            f"Level {schedule.level} is this machine's best; the build also has {missing}, which it lacks."
        ]
    return []


def _threads(schedule: Schedule) -> list[str]:
    allowed = torch.get_num_threads()
    if schedule.workers >= allowed:
        return []
    if schedule.parts <= schedule.workers:
        pieces = f"{schedule.parts} piece{'s' * (schedule.parts != 1)}"
        why = f"the work comes in {pieces}. Larger batches have more"
    else:
        why = "the call is too short: waking more would cost more than it saves. Larger batches use more"
    return [f"{schedule.workers} of {allowed} threads: {why}."]


def _copies(problem: Problem) -> list[str]:
    return [f"{name}: copied in every call, because {why}." for name, why in copied(problem).items()]

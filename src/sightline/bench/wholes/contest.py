"""A whole layer or model, measured with everyone in turn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from sightline.bench.host import Host, RemoteHost, describe
from sightline.bench.machine import Peak
from sightline.bench.peers.peer import Contender
from sightline.bench.session import OURS, Row, Session, best_peer, shares
from sightline.bench.timing import Samples, Timed, take_turns
from sightline.bench.wholes.by_openvino import ByOpenVino
from sightline.bench.wholes.by_ort import ByOrt
from sightline.bench.wholes.by_zentorch import ByZenTorch
from sightline.bench.wholes.case import TOLERANCE, WholeCase, apart

#: Seconds by size of the run: who takes longer for one call is timed by that one alone.
_PATIENCE = {"full": 10.0, "quick": 0.5, "tiny": 10.0}
_OF_OURS = ("ms", "spread", "error")


class Entrant(NamedTuple):
    """Who takes part.

    Attributes:
        contender: who.
        peers: names of peers one of which must have been chosen; () for those that always take part.
    """

    contender: Contender
    peers: tuple[str, ...] = ()


#: Libraries that export or compile a module of PyTorch's.
LIBRARIES = {
    "onnxruntime": Entrant(ByOrt(), ("ort-mha", "ort-attention")),
    "openvino": Entrant(ByOpenVino(), ("openvino",)),
    "zentorch": Entrant(ByZenTorch(), ("zentorch",)),
}


def contest(session: Session, case: WholeCase, entrants: Mapping[str, Entrant], theirs: str) -> Row:
    """Measures all entrants on one case.

    Args:
        session: the run.
        case: the case.
        entrants: by label; "sightline" is what the others are compared with.
        theirs: the label of PyTorch, whose error ours is compared with.
    """
    entries: dict[str, dict[str, Any]] = {}
    hosts: dict[str, Host | RemoteHost] = {}
    try:
        for label, one in entrants.items():
            if not one.peers or set(one.peers) & set(session.settings.peers):
                session.progress(f"{case}, {case.dtype}, {case.direction}: checking {label}")
                entries[label] = _admit(session, label, one.contender, case, hosts)
        session.progress(f"{case}, {case.dtype}, {case.direction}: measuring {', '.join(hosts)}")
        row = _measured(session, case, entries, hosts)
        ours, other = (entries[label].get("error") for label in (OURS, theirs))
        return row | {"x_error": ours / other if ours is not None and other else None}
    finally:
        for host in hosts.values():
            session.leave(host)


def _admit(
    session: Session,
    label: str,
    contender: Contender,
    case: WholeCase,
    hosts: dict[str, Host | RemoteHost],
) -> dict[str, Any]:
    """Loads and judges an entrant; if it is right, it joins ``hosts``, unless one call is enough for it."""
    reason = contender.missing() or contender.why_not(case)
    if reason:
        session.note(label, reason)
        return {"status": "left out", "why": reason}
    kind = type(contender)
    host = session.seat(contender, f"{kind.__module__}:{kind.__qualname__}")
    entry: dict[str, Any] = {"status": "failed"}
    try:
        error = apart(case, host.load(case))
        entry = {"status": "ok" if error <= TOLERANCE[case.dtype] else "wrong", "error": error}
        entry["why"] = "" if entry["status"] == "ok" else f"off by {error:.2g} of the norm"
        spent = host.time(1)
        seconds = spent.wall if session.wall else spent.cpu
    except Exception as problem:
        entry = {"status": "failed", "why": describe(problem)}
    if entry["why"]:
        session.note(label, f"{entry['status']} on {case} {case.dtype} {case.direction}: {entry['why']}")
    elif seconds > session.pick(**_PATIENCE):
        entry["seconds"] = [seconds]
    else:
        hosts[label] = host
        return entry
    session.leave(host)
    return entry


def _measured(
    session: Session,
    case: WholeCase,
    entries: dict[str, dict[str, Any]],
    hosts: Mapping[str, Host | RemoteHost],
) -> Row:
    peak = Peak(session.settings.peak_seconds)
    timed: dict[str, Timed] = {label: host.time for label, host in hosts.items()}
    samples = take_turns({"peak": peak, **timed}, session.settings.budget, session.wall)
    rounds = len(samples.pop("peak").seconds)
    samples |= {label: Samples(one["seconds"]) for label, one in entries.items() if "seconds" in one}
    row: Row = {
        "case": str(case), "dtype": case.dtype, "pass": case.direction, "spec": asdict(case),
        "flops": case.flops, "rounds": rounds,
    }  # fmt: skip
    if case.dtype != "bfloat16":
        peak.dot.clear()  # its instructions do not apply
    ours = samples.get(OURS)
    for label, one in samples.items():
        entries[label] |= {"ms": one.median * 1e3, "spread": one.spread, "seconds": one.seconds}
        entries[label] |= {} if ours is None else {"ratio": _ratio(ours, one)}
        speeds = [case.flops / seconds / 1e9 for seconds in one.seconds]
        if case.flops:
            # Of one call alone there is one speed, and the peak's median is what it was beside.
            speeds = speeds if len(speeds) == rounds else [statistics.median(speeds)] * rounds
            entries[label] |= shares(speeds, peak, rounds, session.settings.threads)
    if ours is not None:
        row |= {key: one for key, one in entries[OURS].items() if key in _OF_OURS or "peak" in key}
    return row | best_peer(entries, entries) | {"contenders": entries}


def _ratio(ours: Samples, theirs: Samples) -> float:
    """How many times as long as ours theirs takes; within rounds, where both were in them."""
    together = len(ours.seconds) == len(theirs.seconds)
    return ours.over(theirs) if together else theirs.median / ours.median

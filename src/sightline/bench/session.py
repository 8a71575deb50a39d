"""A run: who takes part, how long a case may take, and how a case is measured with everyone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from sightline.bench.case import Case, forget_inputs
from sightline.bench.host import Host, PeerError, RemoteHost, describe
from sightline.bench.judge import verdict
from sightline.bench.machine import Peak
from sightline.bench.peers import HIDDEN, PEERS, load_peer
from sightline.bench.peers.peer import Contender, Peer
from sightline.bench.timing import Budget, Samples, Timed, take_turns

Row = dict[str, Any]
OURS = "sightline"


@dataclass(frozen=True)
class BenchSettings:
    """How to run.

    Attributes:
        size: "full", "quick" or "tiny": which cases each section measures.
        threads: for everyone.
        budget: for a case.
        peers: names from PEERS; Sightline itself always takes part.
        peak_seconds: how long each measurement of the machine's peak takes.
        device: where the sections for devices compute.
    """

    size: str = "full"
    threads: int = 1
    budget: Budget = field(default_factory=lambda: Budget(4.0))
    peers: tuple[str, ...] = tuple(name for name in PEERS if name not in HIDDEN)
    peak_seconds: float = 0.02
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Session:
    """Measures for the sections; closes the peers' processes when it ends."""

    def __init__(self, settings: BenchSettings, progress: Callable[[str], None] = lambda line: None) -> None:
        self.settings = settings
        self.progress = progress
        self.notes: dict[str, dict[str, None]] = {}
        self.versions: dict[str, str] = {}
        self._processes: dict[tuple[str, tuple[tuple[str, str], ...]], RemoteHost] = {}
        self._peers: dict[str, Peer] = {}
        for name in dict.fromkeys((OURS, *settings.peers)):
            peer = load_peer(name)
            missing = peer.missing()
            if missing:
                self.note(name, missing)
            else:
                self._peers[name] = peer
                self.versions[name] = peer.version()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        for host in self._processes.values():
            host.close()
        self._processes.clear()

    @property
    def peers(self) -> list[str]:
        """The names of those that are installed, Sightline first."""
        return list(self._peers)

    @property
    def device(self) -> torch.device:
        """Where the sections for devices compute."""
        return self.settings.device

    @property
    def wall(self) -> bool:
        """Whether to measure wall time, as with several threads; a single thread is measured in CPU time."""
        return self.settings.threads > 1 or self.device.type != "cpu"

    def note(self, peer: str, reason: str) -> None:
        """Notes why a peer is left out; each reason once."""
        self.notes.setdefault(peer, {})[reason] = None

    def pick(self, **sizes: Any) -> Any:
        """The entry for this run's size."""
        return sizes[self.settings.size]

    def host(self, name: str, environment: Mapping[str, str] | None = None) -> Host | RemoteHost:
        """The peer, ready to load a case; with an ``environment``, always in a process of its own."""
        return self.seat(self._peers.get(name) or load_peer(name), name, environment)

    def seat(
        self, peer: Contender, name: str, environment: Mapping[str, str] | None = None
    ) -> Host | RemoteHost:
        """A contender, ready to load a case; ``name`` as RemoteHost knows it."""
        threads = self.settings.threads
        if not peer.own_process and environment is None:
            return Host(peer, threads)
        key = (name, tuple(sorted((environment or {}).items())))
        if key not in self._processes:
            changes = {**peer.environment(threads), **(environment or {})}
            self._processes[key] = RemoteHost(name, threads, changes)
        return self._processes[key]

    def dismiss(self, host: Host | RemoteHost) -> None:
        """Drops a process that has ended; the next case starts another."""
        for key in [key for key, one in self._processes.items() if one is host]:
            self._processes.pop(key).close()

    def compare(self, case: Case, others: Mapping[str, tuple[str, Case]] | None = None) -> Row:
        """Measures all peers on one case, in turn.

        Args:
            case: the case.
            others: further contenders, which take turns with them: label to (peer, case).
        """
        contenders = {name: (name, case) for name in self._peers} | dict(others or {})
        entries: dict[str, dict[str, Any]] = {}
        hosts: dict[str, Host | RemoteHost] = {}
        try:
            for label, (name, one) in contenders.items():
                self.progress(f"{case}: checking {label}")
                entries[label] = self._admit(label, name, one, hosts)
            self.progress(f"{case}: measuring {', '.join(hosts)}")
            return self._measured(case, entries, hosts)
        finally:
            for host in hosts.values():
                self.leave(host)
            forget_inputs()

    def _admit(
        self, label: str, name: str, case: Case, hosts: dict[str, Host | RemoteHost]
    ) -> dict[str, Any]:
        """Loads and judges a contender; if it is right, it joins ``hosts``."""
        peer = self._peers.get(name) or load_peer(name)
        reason = peer.why_not(case)
        if reason:
            self.note(name, reason)
            return {"status": "left out", "why": reason}
        host: Host | RemoteHost | None = None
        try:
            host = self.host(name)
            outputs = host.load(case)
        except Exception as error:
            reason = describe(error)
            self.note(name, f"failed on {case} {case.dtype}: {reason}")
            if host is not None:
                self.leave(host)
            return {"status": "failed", "why": reason}
        wrong = "" if name in HIDDEN else verdict(case, outputs)
        if wrong:
            self.note(name, f"wrong on {case} {case.dtype}: {wrong}")
            self.leave(host)
            return {"status": "wrong", "why": wrong}
        hosts[label] = host
        return {"status": "ok"}

    def leave(self, host: Host | RemoteHost) -> None:
        """Drops what a host has loaded."""
        try:
            host.drop()
        except PeerError:
            self.dismiss(host)

    def _measured(self, case: Case, entries: dict[str, Any], hosts: Mapping[str, Host | RemoteHost]) -> Row:
        peak = Peak(self.settings.peak_seconds)
        timed: dict[str, Timed] = {label: host.time for label, host in hosts.items()}
        samples = take_turns({"peak": peak, **timed}, self.settings.budget, self.wall)
        rounds = len(samples["peak"].seconds)
        spec = asdict(case) | {"pattern": str(case.pattern)}
        row: Row = {"case": str(case), "dtype": case.dtype, "spec": spec, "flops": case.flops}
        ours = samples.get(OURS)
        for label in hosts:
            entries[label] |= figures(samples[label], ours)
        if ours is not None:
            row |= {key: entries[OURS][key] for key in ("ms", "spread")} | {"rounds": rounds}
            speeds = [case.flops / seconds / 1e9 for seconds in ours.seconds]
            row["gflops"] = statistics.median(speeds)
            if case.dtype != "bfloat16":
                peak.dot.clear()  # its instructions do not apply
            row |= shares(speeds, peak, rounds, self.settings.threads)
        return row | best_peer(entries, self._peers) | {"contenders": entries}


def figures(samples: Samples, ours: Samples | None) -> dict[str, Any]:
    """A contender's figures; ``ratio`` says how many times as long as Sightline it takes."""
    kept: dict[str, Any] = {"ms": samples.median * 1e3, "spread": samples.spread, "seconds": samples.seconds}
    return kept if ours is None else kept | {"ratio": ours.over(samples)}


def shares(speeds: list[float], peak: Peak, rounds: int, threads: int) -> dict[str, float]:
    """The peaks, and the shares of them that were reached in the same rounds."""
    entries: dict[str, float] = {}
    for name, measured in (("fma", peak.fma[-rounds:]), ("dot", peak.dot[-rounds:])):
        if measured and all(measured):
            entries[f"{name}_peak"] = statistics.median(measured) * threads
            entries[f"of_{name}_peak"] = statistics.median(
                speed / one / threads for speed, one in zip(speeds, measured, strict=True)
            )
    return entries


def best_peer(contenders: Mapping[str, Mapping[str, Any]], peers: Iterable[str]) -> Row:
    """The fastest of the others, and how many times as long as Sightline it takes."""
    others = {n: contenders[n] for n in peers if n != OURS and "ms" in contenders.get(n, {})}
    if not others:
        return {"best_peer": None, "x_best_peer": None}
    best = min(others, key=lambda name: float(others[name]["ms"]))
    return {"best_peer": best, "x_best_peer": others[best].get("ratio")}

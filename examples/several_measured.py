"""Measures attention on several processes of this machine, and compares it with the model of its cost.

    python examples/several_measured.py speed --tokens 32768     # beside one process of one thread
    python examples/several_measured.py million --tokens 1000000 # memory, and samples against brute force
    python examples/several_measured.py link --processes 2 --gigabytes 10 0.5 0.05
    python examples/several_measured.py model                    # the cost on other machines, by formulas

Nothing else should run meanwhile. Each process has one thread. ``link`` delays every message by its bytes
over the speed of a link that it simulates, and says how much of that time processes spent computing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

import sightline
from sightline import distributed
from sightline.distributed import session
from sightline.distributed.link import Link

WIDTH = 64


class Span(NamedTuple):
    """A time from first to last, in seconds of a clock that all processes share."""

    first: float
    last: float

    def within(self, other: Span) -> float:
        """How many seconds of it lie in another."""
        return max(0.0, min(self.last, other.last) - max(self.first, other.first))


class SlowLink(Link):
    """A link of a given speed: a message is sent when as long has passed as its bytes would take.

    Messages of a process leave one after another, as from a network card.
    """

    speed = float("inf")  # bytes per second
    travelled: dict[tuple[str, int], Span] = {}  # noqa: RUF012  (by what and to whom)
    waited: dict[tuple[str, int], Span] = {}  # noqa: RUF012  (by what and from whom)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._send_all, daemon=True).start()

    def _begun(self, begins: list[Any], what: str) -> list[Any]:
        opened = []
        for one in begins:
            if one.way is dist.irecv:
                opened += super()._begun([one], what)
                continue
            [delayed] = super()._begun([one._replace(way=self._delayed(what, one.rank))], what)
            opened.append(delayed)
        return opened

    def _delayed(self, what: str, rank: int) -> Callable[..., Any]:
        def begin(*given: Any, **options: Any) -> _Delayed:
            work = _Delayed(given, options, what, rank)
            self._out.put(work)
            return work

        return begin

    def _send_all(self) -> None:
        while True:
            work = self._out.get()
            tensor = work.given[0]
            first = time.monotonic()
            time.sleep(tensor.numel() * tensor.element_size() / self.speed)
            work.open = dist.isend(*work.given, **work.options)
            self.travelled[work.what, work.rank] = Span(first, time.monotonic())
            work.begun.set()

    def wait(self, work: Any, rank: int, what: str) -> None:
        first = time.monotonic()
        super().wait(work, rank, what)
        if not isinstance(work, _Delayed):
            self.waited[what, rank] = Span(first, time.monotonic())


class _Delayed:
    """A message that a thread sends later; waited for as PyTorch's own."""

    def __init__(self, given: Any, options: Any, what: str, rank: int) -> None:
        self.given, self.options, self.what, self.rank = given, options, what, rank
        self.begun = threading.Event()
        self.open: Any = None

    def wait(self, limit: timedelta) -> Any:
        if not self.begun.wait(limit.total_seconds()):
            return False
        return self.open.wait(limit)


# --- processes --------------------------------------------------------------------------------------------


def together(count: int, function: Callable[..., Any], *given: Any) -> list[Any]:
    """What ``function(*given)`` gives in each of ``count`` new processes that know each other."""
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        answers = start.SimpleQueue()
        processes = [
            start.Process(target=_serve, args=(rank, count, folder, answers, function, given))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        found = dict(answers.get() for _ in processes)
        for process in processes:
            process.join()
    return [found[rank] for rank in range(count)]


def _serve(
    rank: int, count: int, folder: str, answers: Any, function: Callable[..., Any], given: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=count)
    answers.put((rank, function(*given)))
    dist.barrier()
    dist.destroy_process_group()


def inputs(heads: int, tokens: int) -> list[torch.Tensor]:
    """This process's part of random queries, keys and values [1,H,n,64]; the whole is always the same."""
    generator = torch.Generator().manual_seed(0)
    return [
        distributed.shard(torch.randn(1, heads, tokens, WIDTH, generator=generator), 2).clone()
        for _ in range(3)
    ]


# --- speed ------------------------------------------------------------------------------------------------


def time_of(heads: int, tokens: int, runs: int) -> tuple[float, float]:
    """Wall time of forward, and of forward and backward: the least of some runs."""
    forward, both = [], []
    with distributed.context_parallel(order="zigzag"):
        own = [one.requires_grad_() for one in inputs(heads, tokens)]
        for _ in range(runs):
            dist.barrier()
            start = time.monotonic()
            context = sightline.attention(*own, mask=sightline.causal())
            dist.barrier()
            forward.append(time.monotonic() - start)
            context.sum().backward()
            dist.barrier()
            both.append(time.monotonic() - start)
    return min(forward), min(both)


def speed(given: argparse.Namespace) -> None:
    """Wall time beside one process."""
    print(
        f"{given.tokens} tokens, {given.heads} heads of {WIDTH}, causal, zigzag; least of {given.runs} runs"
    )
    alone = together(1, time_of, given.heads, given.tokens, given.runs)[0]
    for count in given.processes:
        found = together(count, time_of, given.heads, given.tokens, given.runs)
        for at, name in enumerate(("forward", "with backward")):
            worst = max(one[at] for one in found)
            print(
                f"{count} processes, {name}: {worst:.2f} s, alone {alone[at]:.2f} s: {alone[at] / worst:.2f}x"
            )


# --- a million tokens -------------------------------------------------------------------------------------


CELLS = 64  # of the picture of the whole matrix, each way


def million_of(tokens: int, window: int, rows: list[int], keys: list[int]) -> dict[str, Any]:
    """Context, rows, columns, entropy and received; a picture of the whole; CPU time and peak memory."""
    with distributed.context_parallel():
        own = inputs(1, tokens)
        start = time.process_time()
        mask = sightline.causal() & sightline.window(window - 1, 0)
        context, matrix = sightline.attention(*own, mask=mask, return_matrix=True)
        read = matrix.readouts("entropy", "received")
        cpu = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        start = time.process_time()
        picture = matrix.pool(CELLS, CELLS, reduce="sum")[0, 0]
        drawn = time.process_time() - start
        near = [slice(max(0, at - window + 1), at + 1) for at in rows]
        below = [slice(at, min(tokens, at + window)) for at in keys]
        return {
            "cpu": cpu, "peak": peak, "drawn": drawn,
            "picture": picture.tolist(),
            "rows": [matrix[0, 0, at, one].tolist() for at, one in zip(rows, near, strict=True)],
            "columns": [matrix[0, 0, one, at].tolist() for at, one in zip(keys, below, strict=True)],
            "context": distributed.unshard(context, 2)[0, 0, rows].tolist(),
            "entropy": distributed.unshard(read.entropy, 2)[0, 0, rows].tolist(),
            "received": distributed.unshard(read.received, 2)[0, 0, keys].tolist(),
        }  # fmt: skip


def million(given: argparse.Namespace) -> None:
    """Samples against brute force in float64, and peak memory beside one process."""
    tokens, window = given.tokens, given.window
    picked = torch.linspace(0, tokens - 1, 9).long().tolist()
    one = together(1, million_of, tokens, window, picked, picked)[0]
    found = together(2, million_of, tokens, window, picked, picked)
    print(f"{tokens} tokens, window of {window}: CPU time and peak memory")
    for name, cost in [("alone", one)] + [(f"process {rank}", cost) for rank, cost in enumerate(found)]:
        print(
            f"  {name}: {cost['cpu']:.1f} s, {cost['peak']:.2f} GiB ({cost['peak'] / one['peak']:.0%}), "
            f"picture of the whole {cost['drawn']:.1f} s"
        )
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, tokens, WIDTH, generator=generator)[0, 0] for _ in range(3))
    for name, error in _errors(query, key, value, window, picked, found[0]).items():
        print(f"  {name}: largest error {error:.1e}")
    picture = torch.tensor(found[0]["picture"], dtype=torch.float64)
    wanted = _row_of_cells(query, key, window, CELLS // 2)
    print(
        f"  row {CELLS // 2} of the picture: largest error {(picture[CELLS // 2] - wanted).abs().max():.1e}"
    )
    print(f"  picture: sum {picture.sum():.3f}")


def _errors(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, picked: list[int], found: Any
) -> dict[str, float]:
    """Of samples, beside the definition in float64."""

    def weights(row: int) -> torch.Tensor:
        near = slice(max(0, row - window + 1), row + 1)
        return (key[near].double() @ query[row].double() / WIDTH**0.5).softmax(0)

    worst = dict.fromkeys(("rows", "columns", "context", "entropy", "received"), 0.0)
    for place, at in enumerate(picked):
        row, first = weights(at), max(0, at - window + 1)
        column = torch.stack(
            [weights(i)[at - max(0, i - window + 1)] for i in range(at, min(len(key), at + window))]
        )
        right = {
            "rows": row, "columns": column, "context": row @ value[first : at + 1].double(),
            "entropy": torch.special.entr(row).sum(), "received": column.sum(),
        }  # fmt: skip
        for name, wanted in right.items():
            worst[name] = max(worst[name], float((torch.tensor(found[name][place]) - wanted).abs().max()))
    return worst


def _row_of_cells(query: torch.Tensor, key: torch.Tensor, window: int, cell: int) -> torch.Tensor:
    """The sums of a row of the picture's cells, by the definition in float64."""
    tokens = len(query)
    first, last = cell * tokens // CELLS, (cell + 1) * tokens // CELLS
    received = torch.zeros(tokens, dtype=torch.float64)
    for start in range(first, last, 1000):
        rows = torch.arange(start, min(last, start + 1000))
        keys = torch.arange(max(0, start - window + 1), int(rows[-1]) + 1)
        scores = query[rows].double() @ key[keys].double().T / WIDTH**0.5
        far = rows[:, None] - keys
        received[keys] += scores.masked_fill((far < 0) | (far >= window), -torch.inf).softmax(1).sum(0)
    ends = [at * tokens // CELLS for at in range(CELLS + 1)]
    return torch.stack([received[a:b].sum() for a, b in zip(ends, ends[1:], strict=False)])


# --- a link -----------------------------------------------------------------------------------------------


class Hops(NamedTuple):
    """What one process saw of a forward pass.

    Attributes:
        seconds: it took.
        travelled, waited: of keys and values, by hop and the process at the other end.
        sizes: bytes of a hop's message.
    """

    seconds: float
    travelled: dict[tuple[str, int], Span]
    waited: dict[tuple[str, int], Span]


def hops_of(heads: int, tokens: int, speeds: list[float], runs: int) -> list[list[Hops]]:
    """For each speed of a link some forward passes."""
    session.Link = SlowLink
    with distributed.context_parallel(order="zigzag", how="ring"):
        own = inputs(heads, tokens)
        sightline.attention(*own, mask=sightline.causal())  # to warm up
        return [[one_pass(own, speed) for _ in range(runs)] for speed in speeds]


def one_pass(own: list[torch.Tensor], bytes_per_second: float) -> Hops:
    """A forward pass over a link of this speed."""
    SlowLink.speed = bytes_per_second
    SlowLink.travelled.clear()
    SlowLink.waited.clear()
    dist.barrier()
    start = time.monotonic()
    sightline.attention(*own, mask=sightline.causal())
    seconds = time.monotonic() - start
    kept = [
        {key: one for key, one in spans.items() if "hop" in key[0]}
        for spans in (SlowLink.travelled, SlowLink.waited)
    ]
    dist.barrier()
    return Hops(seconds, *kept)


def hidden(found: list[Hops]) -> tuple[float, float]:
    """The seconds for which messages travelled, of all processes, and for how many of them nobody waited."""
    total = waited = 0.0
    for sender, hops in enumerate(found):
        for (what, receiver), span in hops.travelled.items():
            total += span.last - span.first
            waited += span.within(found[receiver].waited[what, sender])
    return total, total - waited


def predicted(
    compute: float, bytes_of_hop: float, speed_of_link: float, processes: int
) -> tuple[float, float]:
    """Seconds of a forward pass, and the share of sending that is hidden, where each hop computes as long.

    ``T = C + (P - 1) · max(C, S)`` and ``hidden = min(1, C / S)``: hop t computes C while hop t + 1's message
    takes S, and the last hop sends nothing.
    """
    sending = bytes_of_hop / speed_of_link
    return compute + (processes - 1) * max(compute, sending), min(1.0, compute / sending)


def link(given: argparse.Namespace) -> None:
    """Sending beside computing, measured and by the model."""
    speeds = [1e15, *(1e9 * gigabytes for gigabytes in given.gigabytes)]
    for count in given.processes:
        found = together(count, hops_of, given.heads, given.tokens, speeds, given.runs)
        # The quickest run of each speed: what all processes saw of it.
        best = []
        for at in range(len(speeds)):
            runs = [[of_rank[at][run] for of_rank in found] for run in range(given.runs)]
            best.append(min(runs, key=lambda run: max(one.seconds for one in run)))
        free, *throttled = [max(one.seconds for one in run) for run in best]
        size = 2 * given.heads * (given.tokens // count) * WIDTH * 4
        print(
            f"{count} processes, {given.tokens} tokens, {given.heads} heads of {WIDTH}, causal, zigzag: "
            f"{free:.2f} s without a link's time, at most {size / 1e6:.1f} MB per hop"
        )
        for speed, took, run in zip(speeds[1:], throttled, best[1:], strict=True):
            sent, aside = hidden(run)
            guess, share = predicted(free / count, size, speed, count)
            print(
                f"  {speed / 1e9:g} GB/s: {took:.2f} s (model {guess:.2f}), "
                f"{aside / sent:.1%} of {1e3 * sent:.0f} ms hidden (model {share:.1%})"
            )


# --- other machines ---------------------------------------------------------------------------------------


class Machine(NamedTuple):
    """Attributes: what it is, operations per second of attention, bytes per second of a link."""

    name: str
    operations: float
    link: float


MACHINES = (
    Machine("H100, kernels in bfloat16, NVLink", 400e12, 300e9),
    Machine("H100, kernels in bfloat16, 400 Gb/s network", 400e12, 40e9),
    Machine("H100, tiles in float32, NVLink", 30e12, 300e9),
)


def model(given: argparse.Namespace) -> None:
    """The cost of one layer's forward pass, causal and zigzag, by the formulas."""
    heads, groups, width, count = 32, 8, 128, given.processes[0]
    print(
        f"{count} GPUs, {heads} heads and {groups} key heads of {width}, 2 bytes a number, one layer, forward"
    )
    for machine in MACHINES:
        print(f"  {machine.name}: {machine.operations / 1e12:g} TFLOP/s, {machine.link / 1e9:g} GB/s")
        for tokens in (10**5, 10**6, 10**7):
            own = tokens // count
            compute = 2 * heads * width * own**2 / machine.operations  # a hop: half of own x own is seen
            size = 2 * 2 * groups * own * width
            total, share = predicted(compute, size, machine.link, count)
            print(
                f"    {tokens:>10,} tokens: a hop computes {compute:#.2g} s, sends {size / 1e6:,.0f} MB in "
                f"{size / machine.link:#.2g} s; {total:#.3g} s in all, {share:.0%} of sending hidden"
            )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whats = {"speed": speed, "million": million, "link": link, "model": model}
    parser.add_argument("what", choices=whats)
    parser.add_argument("--tokens", type=int, help="of the sequence")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--processes", type=int, nargs="+", help="how many; several are measured in turn")
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[10.0], help="per second, of the link")
    parser.add_argument("--window", type=int, default=512, help="of a million tokens")
    parser.add_argument("--runs", type=int, default=3, help="the quickest counts")
    given = parser.parse_args(arguments)
    given.tokens = given.tokens or {"million": 1_000_000, "link": 16384}.get(given.what, 32768)
    given.processes = given.processes or ([8] if given.what == "model" else [2])
    whats[given.what](given)
    return 0


if __name__ == "__main__":
    sys.exit(main())

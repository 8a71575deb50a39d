"""Attention on several processes is attention on one: contexts and gradients, to 1e-12 in float64."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from distributed.problems import NAMES, computed, shared, whole
from sightline import distributed
from sightline.backends.select import select_rows
from sightline.distributed import agreement, heads
from sightline.distributed.layout import layout_of, lengths_of
from sightline.distributed.ring import Ring
from sightline.distributed.tiles import needed_keys
from sightline.lowering import lower


def cutters(group: Any, lengths: dict[str, list[int]], order: str) -> dict[str, Any]:
    """How this process cuts queries and keys, of which each process gets so many."""
    rank = dist.get_rank(group)
    layouts = {name: layout_of(counts, order) for name, counts in lengths.items()}
    return {name: lambda tensor, axis, one=one: one.own(tensor, axis, rank) for name, one in layouts.items()}


def check(
    group: Any,
    name: str,
    lengths: dict[str, list[int]],
    order: str = "contiguous",
    runs: int = 1,
    how: str = "ring",
) -> None:
    """Compares with one process; every run gives the same bits."""
    sizes = sum(lengths["query"]), sum(lengths["key"])
    cut = cutters(group, lengths, order)
    wanted = computed(whole(name, *sizes))
    found = [shared(whole(name, *sizes), cut, group, order=order, how=how) for _ in range(runs)]
    assert found[0].keys() == wanted.keys()
    for one, right in wanted.items():
        assert all(found[0][one].equal(again[one]) for again in found), one
        torch.testing.assert_close(
            found[0][one], right, atol=1e-12, rtol=1e-12, msg=lambda told, one=one: f"{one}: {told}"
        )


def even(n: int, m: int, count: int, order: str) -> dict[str, list[int]]:
    return {"query": lengths_of(n, count, order), "key": lengths_of(m, count, order)}


@pytest.mark.parametrize("place, name", list(enumerate(NAMES)))
def test_every_mask_and_bias(pool, place, name):
    """Of prime lengths, on three processes in order or on two in zigzag."""
    if place % 2:
        pool.run(check, name, even(23, 23, 3, "contiguous"), count=3)
    else:
        pool.run(check, name, even(19, 31, 2, "zigzag"), "zigzag", count=2)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_all_of_them_everywhere(pool, name, count, order):
    for n, m in ((13, 13), (7, 29), (37, 11)):
        pool.run(check, name, even(n, m, count, order), order, 2, count=count)


@pytest.mark.parametrize("name", ["sinks", "alibi"])
def test_heads_instead_of_keys(pool, name):
    """Rows travel to whoever has the heads, and back; also with parts of any length."""
    pool.run(check, name, {"query": [9, 2], "key": [0, 11]}, "contiguous", 1, "heads", count=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_heads_everywhere(pool, name):
    """What heads cannot do the ring does."""
    for count in (2, 4):
        pool.run(check, name, even(13, 29, count, "zigzag"), "zigzag", 2, "heads", count=count)


def test_heads_where_they_take_less_than_half_of_the_bytes():
    for count, groups, mask, wanted in (
        (4, 16, None, False),  # 4·(P-1)/P² of what a ring of P takes with 2·(P-1)/P: half at P = 4
        (8, 16, None, True),
        (8, 16, sightline.window(10, 0), False),  # hardly anything travels in a ring
        (8, 4, None, False),  # 4 key heads for 8 processes
    ):
        layout = layout_of(lengths_of(64, count, "contiguous"), "contiguous")
        key = torch.zeros(1, groups, 64, 4)
        problem = lower(torch.zeros(1, 16, 64, 4), key, key, mask=mask)
        segments = [one for of_rank in layout.segments for one in of_rank]
        table = [needed_keys(select_rows(problem, slice(one.first, one.last)), segments) for one in segments]
        link = SimpleNamespace(count=count, rank=0)
        assert heads.cheaper(Ring(link, layout, layout, table, problem, (4, 4))) == wanted, count


@pytest.mark.parametrize("name", ["causal", "dense"])
def test_uneven_and_empty_parts_and_the_same_bits_again(pool, name):
    pool.run(check, name, {"query": [0, 5, 1, 7], "key": [9, 0, 2, 2]}, "contiguous", 2)
    pool.run(check, name, {"query": [3, 0], "key": [0, 3]}, count=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_uneven_and_empty_parts_everywhere(pool, name):
    pool.run(check, name, {"query": [0, 5, 1, 7], "key": [9, 0, 2, 2]}, "contiguous", 2)
    pool.run(check, name, {"query": [1, 0, 0], "key": [1, 0, 0]}, count=3)
    pool.run(check, name, {"query": [0, 0], "key": [0, 0]}, count=2)


def in_other_dtypes(group: Any) -> dict[torch.dtype, float]:
    """The largest error of a context, over that of one process, by dtype."""
    ratios = {}
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    mine = layout_of(lengths_of(200, count, "contiguous"), "contiguous")
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        tensors = [torch.randn(1, 2, 200, 64).to(dtype) for _ in range(3)]
        exact = sightline.attention(*(one.double() for one in tensors), mask=sightline.causal())
        alone = sightline.attention(*tensors, mask=sightline.causal())
        own = [mine.own(one, 2, rank).requires_grad_() for one in tensors]
        with distributed.context_parallel(group, timeout=60):
            context = sightline.attention(*own, mask=sightline.causal())
            context.sum().backward()
            together = distributed.unshard(context.detach(), 2)
        assert together.dtype == dtype and all(one.grad.dtype == dtype for one in own)
        ratios[dtype] = float((together - exact).abs().max() / (alone - exact).abs().max())
    return ratios


def test_halves_are_put_together_in_float32(pool):
    """A part is not rounded before it joins the others: no more error than in one process."""
    for ratios in pool.run(in_other_dtypes, count=3):
        assert max(ratios.values()) <= 2, ratios


def traffic(group: Any) -> list[tuple[str, dict[int, int]]]:
    """What this process sends of keys and gradients, in numbers, by what and to whom."""
    sent = []
    original = distributed.link.Link.exchange

    def exchange(link: Any, out: Any, into: Any, what: str) -> Any:
        if "hop" in what:
            sent.append((what, {rank: one.numel() for rank, one in out.items() if one.numel()}))
        return original(link, out, into, what)

    distributed.link.Link.exchange = exchange
    try:
        own = [torch.randn(1, 1, 10, 4, requires_grad=True) for _ in range(3)]
        with distributed.context_parallel(group, timeout=60):
            sightline.attention(*own, mask=sightline.window(3, 0)).sum().backward()
    finally:
        distributed.link.Link.exchange = original
    return sent


def test_what_nobody_may_see_does_not_travel(pool):
    """A window of 4 keys: the last 3 of each process go to the next one, and their gradients come back."""
    first, second, last = pool.run(traffic, count=3)
    numbers = 3 * (4 + 4)
    hop = "the keys and values of hop 1"
    assert [sent for what, sent in first if what == hop] == [{1: numbers}] * 2  # forward, and backward
    assert [sent for what, sent in last if what == hop] == [{}] * 2
    assert ("the gradients of hop 1", {1: numbers}) in last
    assert not any(sent for what, sent in first + second + last if "hop 2" in what)


def hidden(group: Any) -> None:
    """NaN in keys and values that nobody sees, on another process, change nothing."""
    rank = dist.get_rank(group)
    torch.manual_seed(rank)
    own = [torch.randn(1, 1, 5, 4, dtype=torch.float64) for _ in range(3)]
    if rank == 1:
        own[1][:, :, 3:] = torch.nan
        own[2][:, :, 3:] = torch.inf
    own = [one.requires_grad_() for one in own]
    with distributed.context_parallel(group, timeout=60):
        context = sightline.attention(*own, mask=sightline.lengths([8]))
        context.sum().backward()
    assert context.isfinite().all() and all(one.grad.isfinite().all() for one in own)


def test_what_is_hidden_may_hold_anything(pool):
    pool.run(hidden, count=2)


# --- what is refused ------------------------------------------------------------------------------------


def differing(group: Any, what: str) -> str:
    """The error of a call in which process 1 differs."""
    rank = dist.get_rank(group)
    odd = rank == 1
    own = [torch.randn(1, 2, 5, 4) for _ in range(3)]
    options: dict[str, Any] = {"mask": sightline.causal()}
    if what == "dtype" and odd:
        own = [one.double() for one in own]
    if what == "heads" and odd:
        own[0] = torch.randn(1, 4, 5, 4)
    if what == "mask" and odd:
        options["mask"] = sightline.window(2, 0)
    if what == "window" and odd:
        options["mask"] = sightline.causal("top-left")
    if what == "scale" and odd:
        options["scale"] = 0.25
    if what == "documents":
        options["mask"] = sightline.documents(torch.tensor([0] * 6 + [1] * (4 - odd) + [2] * odd))
    if what in ("dense", "dense row"):
        seen = torch.ones(1, 1, 10 if what == "dense" else 1, 10, dtype=torch.bool)
        seen[..., -1, 3] = odd
        options["mask"] = sightline.causal() & sightline.dense(seen)
    if what == "dense bias":
        options["bias"] = torch.zeros(2, 10, 10).index_fill_(0, torch.tensor([1]), 1.0 + odd)
    if what == "gradients" and odd:
        own[0].requires_grad_()
    if what == "wrong" and odd:
        own[2] = own[2][:, :, :3]
    if what == "lowering" and odd:
        options["mask"] = sightline.causal(torch.tensor([0, 1]))
    with distributed.context_parallel(group, timeout=60):
        try:
            if what == "other call" and odd:
                distributed.unshard(own[0], 2)
            else:
                sightline.attention(*own, **options)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.mark.parametrize(
    "what, told, of_the_odd_one",
    [
        ("dtype", "ValueError: query: dtype .*: process 1 has another than process 0: 0 and 1", None),
        ("heads", r"ValueError: query: heads H \(axis 1\): process 1 .* process 0: 4 and 2", None),
        ("window", "ValueError: mask or bias: process 1 has another than process 0", "no error"),
        ("mask", "ValueError: mask or bias: process 1 has another than process 0", None),
        ("scale", r"ValueError: scale \(here .*\): process 1 has another than process 0", None),
        ("documents", "ValueError: mask or bias: process 1 has another than process 0", None),
        ("dense", "ValueError: mask or bias, dense: process 1 has another than process 0", None),
        ("dense row", "ValueError: mask or bias, dense: process 1 has another than process 0", None),
        ("dense bias", "ValueError: mask or bias, dense: process 1 has another than process 0", None),
        ("gradients", "ValueError: whether gradients are recorded: process 1 .*: 1 and 0", None),
        ("wrong", "ProcessError: process 1 of 2 failed before attention; it tells why",
         "ValueError: value: 3 entries along axis M"),
        ("lowering", "ProcessError: process 1 of 2 failed before attention, its mask and bias lowered",
         "ValueError: align: 2 offsets"),
        ("other call", "ProcessError: process 1 of 2 does something else than process 0, which is at attention",
         "ProcessError: process 0 of 2 does something else than process 1, which is at unshard"),
    ],
)  # fmt: skip
def test_what_differs_is_found_at_once(pool, what, told, of_the_odd_one):
    first, second = pool.run(differing, what, count=2)
    if what == "window":  # of as many queries as keys both are the same
        assert first == second == "no error"
        return
    assert re.match(told, first), first
    assert re.match(of_the_odd_one or told, second), second


def test_checksums():
    """Every bit counts, and its place; pieces are summed up as the whole."""
    torch.manual_seed(0)
    for tensor in (torch.rand(2, 3, 5, 7) < 0.5, torch.randn(2, 3, 5, 7), torch.randint(9, (2, 3, 5, 7)),
                   torch.randn(1, 1, 5, 7, dtype=torch.bfloat16).expand(2, 3, 5, 7)):  # fmt: skip
        found = agreement.of_tensor(tensor)
        assert found == agreement.of_tensor(tensor.clone()) and -(1 << 62) <= found < 1 << 62
        assert found != agreement.of_tensor(tensor.flip(3)) and found != agreement.of_tensor(tensor[:, :, :4])
        for place in range(210):
            other = tensor.clone()
            other.view(-1)[place] = ~other.view(-1)[place] if other.dtype == torch.bool else 11
            assert found != agreement.of_tensor(other), place


def test_large_tensors_are_summed_up_in_pieces(monkeypatch):
    for shape in ((8, 64), (1, 2, 3, 64), (1, 1, 512)):
        tensor = torch.randn(shape)
        found = agreement.of_tensor(tensor)
        with monkeypatch.context() as changed:
            changed.setattr(agreement, "_PIECE", 64)  # of an even count: no piece is filled up
            assert agreement.of_tensor(tensor) == found


def refused(group: Any) -> None:
    tensors = torch.randn(3, 1, 1, 4, 4)
    uneven = tensors[..., : 4 - dist.get_rank(group), :]
    with distributed.context_parallel(group, order="zigzag", timeout=60):
        with pytest.raises(
            ValueError, match=r"zigzag order 2 processes hold \[3, 4\] of N=7 rows .* \[4, 3\]"
        ):
            sightline.attention(*uneven)
        with pytest.raises(NotImplementedError, match="torch.func"):
            torch.func.grad(lambda one: sightline.attention(one, one, one).sum())(tensors[0])
        with pytest.raises(IndexError, match="dim: 4 is out of range"):
            distributed.shard(tensors[0], 4)
    with pytest.raises(ValueError, match="order"), distributed.context_parallel(group, order="other"):
        pass
    with pytest.raises(ValueError, match="timeout"), distributed.context_parallel(group, timeout=0):
        pass
    with pytest.raises(TypeError, match="group: expected a process group or a DeviceMesh, got int"):
        distributed.context_parallel(3).__enter__()


def test_what_is_refused(pool):
    pool.run(refused, count=2)


def test_without_torch_distributed_started():
    with pytest.raises(RuntimeError, match="init_process_group"), distributed.context_parallel():
        pass


def test_layouts():

    for length in range(14):
        for count in (1, 2, 3):
            for order in ("contiguous", "zigzag"):
                layout = layout_of(lengths_of(length, count, order), order)
                places = [layout.positions(rank, torch.device("cpu")) for rank in range(count)]
                assert torch.cat(places).sort().values.tolist() == list(range(length))
                whole_of = torch.arange(length)
                assert all(
                    layout.own(whole_of, 0, rank).equal(place) and layout.count(rank) == len(place)
                    for rank, place in enumerate(places)
                )

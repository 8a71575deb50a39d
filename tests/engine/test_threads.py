"""Threads: the helpers are shared by all callers, and a forked child starts its own."""

import multiprocessing
import os
import threading

import pytest
import torch

import sightline
from sightline.backends.native import kernels
from sightline.backends.native.plan import schedule_of
from sightline.core import library
from sightline.lowering import lower

pytestmark = pytest.mark.skipif(library.available() is not None, reason="no native core")


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def problem(n, m, heads=8, kv_heads=2, mask=None):
    key, value = torch.randn(2, 1, kv_heads, m, 64)
    return lower(torch.randn(1, heads, n, 64), key, value, mask=mask)


def mixed_problems():
    causal = sightline.causal()
    return [
        problem(1, 3000),
        problem(300, 300, mask=causal),
        problem(4, 3000, mask=causal),
        problem(40, 900),
        problem(500, 500, mask=causal),
        problem(2, 5000),
        problem(70, 700),
        problem(1, 2800),
    ]


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_the_forward_result_does_not_depend_on_the_threads(threads):
    for p in mixed_problems():
        torch.set_num_threads(1)
        context, lse = kernels.forward(p)
        torch.set_num_threads(threads)
        assert schedule_of(p).workers > 1
        again, lse_again = kernels.forward(p)
        assert torch.equal(context, again) and torch.equal(lse, lse_again)


def test_work_too_short_to_share_stays_here():
    torch.set_num_threads(4)
    assert schedule_of(problem(1, 77)).workers == 1
    assert schedule_of(problem(20, 20)).workers == 1
    assert schedule_of(problem(1, 20000)).workers == 4
    assert schedule_of(problem(1000, 1000)).workers == 4


def test_callers_on_eight_threads():
    torch.set_num_threads(4)
    problems = mixed_problems()
    wanted = [kernels.forward(p)[0] for p in problems]
    found = [[] for _ in problems]

    def call(i):
        for _ in range(15):
            found[i].append(kernels.forward(problems[i])[0])

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(problems))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for results, right in zip(found, wanted, strict=True):
        assert len(results) == 15 and all(torch.equal(result, right) for result in results)


def in_child(compute):
    """What a forked child gets, as bytes; it leaves without running anything else of the parent's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, compute())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_computes():
    torch.set_num_threads(3)
    p = problem(2, 5000)
    context, _ = kernels.forward(p)  # the helpers are there

    def compute():
        for _ in range(5):
            found, _ = kernels.forward(p)
        return found.numpy().tobytes()

    assert schedule_of(p).workers == 3
    assert in_child(compute) == context.numpy().tobytes()
    assert in_child(lambda: in_child(compute)) == context.numpy().tobytes()
    assert torch.equal(kernels.forward(p)[0], context)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_others_compute():
    torch.set_num_threads(3)
    p = problem(2, 5000)
    wanted = kernels.forward(p)[0].numpy().tobytes()
    stop = threading.Event()

    def keep_computing():
        while not stop.is_set():
            kernels.forward(p)

    callers = [threading.Thread(target=keep_computing) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(5):
            assert in_child(lambda: kernels.forward(p)[0].numpy().tobytes()) == wanted
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def put_context(queue, p):
    queue.put(kernels.forward(p)[0].tolist())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_multiprocessing_by_fork():
    torch.set_num_threads(2)
    p = problem(1, 4000)
    wanted = kernels.forward(p)[0]
    processes = multiprocessing.get_context("fork")
    queue = processes.Queue()
    children = [processes.Process(target=put_context, args=(queue, p)) for _ in range(2)]
    for child in children:
        child.start()
    found = [torch.tensor(queue.get(timeout=60)) for _ in children]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert all(torch.equal(result, wanted) for result in found)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")
def test_helpers_sleep_after_the_call_and_are_not_started_anew():
    torch.set_num_threads(3)
    p = problem(2, 5000)
    for _ in range(3):
        kernels.forward(p)
    before = set(os.listdir("/proc/self/task"))
    for _ in range(50):
        kernels.forward(p)
    assert set(os.listdir("/proc/self/task")) == before
    spent = sum(os.times()[:2])
    threading.Event().wait(0.3)
    assert sum(os.times()[:2]) - spent < 0.25  # three threads spinning would have spent more

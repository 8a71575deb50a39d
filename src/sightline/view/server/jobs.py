"""Computations in worker threads: urgent ones first, shared by all who wait, stopped when nobody does."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from enum import IntEnum
from threading import Event, Lock, Thread
from typing import Any

from sightline.view.server.cancel import Cancel, StoppedError

#: Computations that may wait for a worker; more are refused.
WAITING = 512


class Urgency(IntEnum):
    """The priority of a computation; lower numbers go first."""

    QUICK = 0  # milliseconds; has a worker of its own, so that no long computation delays it
    EXACT = 1
    WHOLE = 2  # a pass over a whole matrix


class BusyError(Exception):
    """Too many computations are waiting."""


class Computation:
    """One computation, and how many clients wait for it."""

    def __init__(
        self, key: Hashable, urgency: Urgency, compute: Callable[[Cancel], Any], calm: Event
    ) -> None:
        self.key, self.urgency, self.compute = key, urgency, compute
        self.future: Future[Any] = Future()
        self.cancel = Cancel(None if urgency is Urgency.QUICK else calm)
        self.waiting = 0


class Computations:
    """Worker threads. They are daemons: the end of the process does not wait for them.

    Quick computations have a worker of their own, and the others pause between two steps while it works:
    each of them would use all cores.
    """

    def __init__(self, workers: int = 2) -> None:
        self._quick: queue.PriorityQueue[Any] = queue.PriorityQueue()
        self._slow: queue.PriorityQueue[Any] = queue.PriorityQueue()
        self._order = itertools.count()
        self._known: dict[Hashable, Computation] = {}
        self._lock = Lock()
        self._hurried = 0  # quick ones that are waiting or running
        self._calm = Event()
        self._calm.set()
        self._stopped = False
        self._threads = [Thread(target=self._work, args=(self._quick,), daemon=True)]
        self._threads += [Thread(target=self._work, args=(self._slow,), daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def join(self, key: Hashable, urgency: Urgency, compute: Callable[[Cancel], Any]) -> Computation:
        """The running computation of that key, else a new one; :meth:`leave` it afterwards.

        Raises:
            BusyError: when too many are waiting.
        """
        with self._lock:
            job = self._known.get(key)
            if job is None or job.cancel.is_set():
                if len(self._known) >= WAITING:
                    raise BusyError
                job = self._known[key] = Computation(key, urgency, compute, self._calm)
                line = self._quick if urgency is Urgency.QUICK else self._slow
                if urgency is Urgency.QUICK:
                    self._hurried += 1
                    self._calm.clear()
                line.put((int(urgency), next(self._order), job))
            job.waiting += 1
            return job

    def leave(self, job: Computation) -> None:
        """One client stops waiting; when the last one leaves, the computation stops."""
        with self._lock:
            job.waiting -= 1
            if job.waiting == 0 and not job.future.done():
                job.cancel.set()
                self._forget(job)

    def stop(self) -> None:
        """Stops every computation and the workers."""
        with self._lock:
            self._stopped = True
            self._calm.set()
            for job in self._known.values():
                job.cancel.set()
        for line, count in ((self._quick, 1), (self._slow, len(self._threads) - 1)):
            for _ in range(count):
                line.put((-1, next(self._order), None))

    def _work(self, line: queue.PriorityQueue[Any]) -> None:
        while (job := line.get()[2]) is not None and not self._stopped:
            self._run(job)
            if job.urgency is Urgency.QUICK:
                with self._lock:
                    self._hurried -= 1
                    if self._hurried == 0:
                        self._calm.set()

    def _run(self, job: Computation) -> None:
        try:
            if job.cancel.is_set():
                raise StoppedError
            result = job.compute(job.cancel)
        except BaseException as error:
            with self._lock:
                self._forget(job)
            job.future.set_exception(error)
            return
        with self._lock:
            self._forget(job)
        job.future.set_result(result)

    def _forget(self, job: Computation) -> None:
        if self._known.get(job.key) is job:
            del self._known[job.key]

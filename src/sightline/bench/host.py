"""Runs a peer: here, or in a process of its own that answers the same calls."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from sightline.bench.case import forget_inputs
from sightline.bench.peers import PEERS, load_contender
from sightline.bench.peers.peer import Contender, PreparedCase
from sightline.bench.timing import Spent, clock


class PeerError(Exception):
    """A peer raised an error, or its process ended; the message is for the notes under the tables."""


class Host:
    """One peer in this process."""

    def __init__(self, peer: Contender, threads: int) -> None:
        self.peer = peer
        self.threads = threads
        self._runs: Iterator[PreparedCase] = iter(())

    def load(self, case: Any) -> list[Tensor]:
        """Prepares a case, runs it once and returns what is compared with float64, as float32."""
        torch.set_num_threads(self.threads)
        runs, outputs = self.peer.load(case, self.threads)
        self._runs = itertools.cycle(runs)
        return outputs

    def time(self, number: int) -> Spent:
        """The time of one call of the loaded case, the mean of ``number`` calls."""
        torch.set_num_threads(self.threads)
        if number == 1:
            return clock(next(self._runs).call, 1)
        return clock(lambda: next(self._runs).call(), number)

    def drop(self) -> None:
        """Drops the loaded case."""
        self._runs = iter(())
        self.peer.forget()

    def close(self) -> None:
        self.drop()


class RemoteHost:
    """One peer in a process of its own, with its own thread pools and settings.

    Args:
        name: from PEERS, or ``module:class`` of another contender.
        threads: how many may compute.
        environment: changes to the environment variables of the process.
    """

    def __init__(self, name: str, threads: int, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, threads), daemon=True)
        with _environment(environment), _interrupts_ignored():
            self._process.start()
        theirs.close()
        self._name = name

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._connection.send((method, arguments))
            kind, answer = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise PeerError(f"its process ended (exit code {self._process.exitcode})") from None
        if kind == "error":
            raise PeerError(answer)
        return answer

    def load(self, case: Any) -> list[Tensor]:
        return [torch.from_numpy(array) for array in self._ask("load", case)]

    def time(self, number: int) -> Spent:
        spent: Spent = self._ask("time", number)
        return spent

    def drop(self) -> None:
        self._ask("drop")

    def close(self) -> None:
        self._connection.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()


def serve(connection: Connection, name: str, threads: int) -> None:
    """In the other process: answers until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        host = Host(load_contender(PEERS.get(name, name)), threads)
        failed = ""
    except Exception as error:
        failed = describe(error)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            if failed:
                raise PeerError(failed)
            answer = getattr(host, method)(*arguments)
            if method == "drop":
                forget_inputs()
            # Tensors would pass through shared memory, which outlives a process that is killed.
            if method == "load":
                answer = [tensor.contiguous().numpy() for tensor in answer]
            connection.send(("answer", answer))
        except Exception as error:
            connection.send(("error", describe(error)))


def describe(error: Exception) -> str:
    """An error in one line of readable length."""
    if isinstance(error, PeerError):
        return str(error)
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return text if len(text) <= 160 else text[:157] + "..."


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for a child: libraries read theirs when they are loaded."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal; a child started in here leaves it to us."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # only the main thread handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""Waits for a computation until it is done, the client has gone, or the client asks for something newer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from starlette.requests import Request

from sightline.view.server.asked import RefusedError
from sightline.view.server.jobs import Computation, Computations

_LOOK = 0.025  # seconds between two checks whether the client still waits
_CLIENTS = 256


class Generations:
    """The newest generation of each client; its older requests are abandoned."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, int] = OrderedDict()

    def note(self, client: str, generation: int) -> None:
        """Notes that a client asks in this generation."""
        self._newest[client] = max(generation, self._newest.pop(client, 0))
        while len(self._newest) > _CLIENTS:
            self._newest.popitem(last=False)

    def is_old(self, client: str, generation: int) -> bool:
        """Whether the client has asked in a newer one."""
        return generation < self._newest.get(client, 0)


async def wait(request: Request, jobs: Computations, job: Computation, generations: Generations) -> Any:
    """The result of a computation.

    Raises:
        RefusedError: 409 when the client has asked for something newer, 499 when it has gone.
    """
    client = request.query_params.get("client", "")[:64]
    text = request.query_params.get("generation", "")
    generation = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
    if generation is not None:
        generations.note(client, generation)
    done = asyncio.wrap_future(job.future)
    try:
        while True:
            finished, _ = await asyncio.wait([done], timeout=_LOOK)
            if finished:
                return done.result()
            if job.cancel.is_set():
                raise RefusedError(503, "The server ends.")
            if generation is not None and generations.is_old(client, generation):
                raise RefusedError(409, "The page has asked for something newer.")
            if await request.is_disconnected():
                raise RefusedError(499, "The page has gone.")
    finally:
        jobs.leave(job)
        if not done.done():
            done.add_done_callback(lambda future: future.cancelled() or future.exception())

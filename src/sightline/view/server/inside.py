"""Requests answered without a network: by the server's application, in a thread of this process."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class Request:
    """What the page asks: ``/api/traces?...``."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What it gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def ask(app: ASGIApp, request: Request, gone: threading.Event, take: Callable[[Answer], None]) -> None:
    """Begins to answer; ``take`` gets the answer, in another thread. ``gone`` is set once nobody waits."""
    future = asyncio.run_coroutine_threadsafe(_answered(app, request, gone), _loop())
    future.add_done_callback(lambda done: take(done.result()))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all that is asked in this process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sightline-inside", daemon=True).start()
    return loop


async def _answered(app: ASGIApp, request: Request, gone: threading.Event) -> Answer:
    bodies = [request.body]
    status = 500
    headers: list[tuple[bytes, bytes]] = []
    parts: list[bytes] = []

    async def receive() -> Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        if not gone.is_set():
            await asyncio.Event().wait()  # whoever asks whether somebody waits does not wait for it
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        else:
            parts.append(message.get("body", b""))

    try:
        await app(_scope(request), receive, send)
    except Exception as error:
        # Never nothing: the page would wait for ever.
        text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        return Answer(500, (("content-type", "application/json"),), text.encode())
    pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return Answer(status, pairs, b"".join(parts))


def _scope(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"kernel"), (b"content-type", b"application/json")],
        "client": None,
        "server": None,
    }

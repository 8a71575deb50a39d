"""The server process: a socket that is checked first, uvicorn on it, and an immediate end on Ctrl-C."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette

from sightline.view.server.catalogue import ServeError


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises:
        ServeError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    # Elsewhere this takes a port whose last connections are still closing; on Windows it would share one that
    # another server listens on.
    if sys.platform == "win32":
        option = socket.SO_EXCLUSIVEADDRUSE
    else:
        option = socket.SO_REUSEADDR
    made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            text = f"--port {port}: is in use on {host}; give another one, or --port 0 for any that is free"
        elif error.errno == errno.EACCES:
            text = f"--port {port}: this user may not listen there; give one above 1023"
        else:
            text = f"--host {host}: cannot listen there: {error.strerror or error}"
        raise ServeError(text) from None
    return made


class Server(uvicorn.Server):
    """A uvicorn server that does not wait for open requests when it ends, and says when it has started."""

    def __init__(self, app: Starlette, on_start: Callable[[], None], on_end: Callable[[], None]) -> None:
        settings: dict[str, Any] = {"log_level": "error", "access_log": False, "lifespan": "on"}
        super().__init__(
            uvicorn.Config(
                app, timeout_graceful_shutdown=1, server_header=False, ws="none", loop="asyncio", **settings
            )
        )
        self.on_start, self.on_end = on_start, on_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_start()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.on_end()  # so that no open request has anything to wait for
        super().handle_exit(sig, frame)

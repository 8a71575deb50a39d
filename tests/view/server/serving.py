"""An application behind a real uvicorn."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from sightline.view.server.app import create_app
from sightline.view.server.guard import allowed_hosts
from sightline.view.server.running import Server, bind
from sightline.view.server.service import Service


@contextlib.contextmanager
def served(service: Service) -> Iterator[str]:
    """Where the service's application answers, on a free port."""
    listening = bind("127.0.0.1", 0)
    port, ready = listening.getsockname()[1], threading.Event()
    server = Server(create_app(service, allowed_hosts("127.0.0.1", port)), ready.set, service.stop)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()

"""``sightline serve``: traces in the browser, of any length."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sightline.commands import serve_options as options
from sightline.commands.device_option import chosen_device
from sightline.reading.source import read_source
from sightline.view.server.catalogue import ServeError, open_files

if TYPE_CHECKING:
    import socket

    from sightline.view.server.service import Service

PORT = 8417
EXAMPLE = "The cat sat on the mat."


def serve(
    traces: options.Traces = None,
    model: options.Model = None,
    text: options.Text = None,
    pair: options.Pair = None,
    max_tokens: options.MaxTokens = None,
    offload: options.Offload = None,
    batch: options.Batch = 0,
    host: options.Host = "127.0.0.1",
    port: options.Port = PORT,
    open_: options.Open = True,
    cache: options.Cache = 128,
    max_upload: options.MaxUpload = 512,
    device: options.Device = "auto",
) -> None:
    """Look into attention in the browser: saved traces, or a model and a text, of any length."""
    reading = _Reading(model, text, pair, max_tokens, offload, device)
    reading.check()
    _check_numbers(port, cache, max_upload)
    from sightline.view.server.running import bind
    from sightline.view.server.service import Service
    from sightline.view.server.uploads import Uploads

    listening = bind(host, port)
    try:
        service = Service(open_files(traces or [], batch), cache << 20)
        if max_upload:
            service.uploads = Uploads(max_upload)
        if model is not None or text is not None or not traces:
            reading.begin(service, text or (None if traces else EXAMPLE))
        _run(service, listening, host, open_)
    finally:
        listening.close()


def _run(service: Service, listening: socket.socket, host: str, open_: bool) -> None:
    """Serves until Ctrl-C."""
    from sightline.view.server.app import create_app
    from sightline.view.server.guard import allowed_hosts
    from sightline.view.server.running import Server

    port = listening.getsockname()[1]
    address = _address(host, port)

    def ready() -> None:
        count = len(service.traces)
        print(f"Sightline shows {count} trace(s) at {address}  (Ctrl-C ends)", flush=True)
        if open_:
            import webbrowser

            webbrowser.open(address)

    app = create_app(service, allowed_hosts(host, port))
    Server(app, ready, service.stop).run(sockets=[listening])


def _address(host: str, port: int) -> str:
    """What to open in a browser on this machine; warns if other machines can open it, too."""
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"sightline: --host {host}: every machine that reaches this one can read these traces",
            file=sys.stderr,
        )
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # nosec B104
    return f"http://{shown}:{port}/"


def _check_numbers(port: int, cache: int, max_upload: int) -> None:
    if not 0 <= port <= 65535:
        raise ServeError(f"--port {port}: from 0 to 65535")
    if not 1 <= cache <= 1 << 20:
        raise ServeError(f"--cache {cache}: megabytes, at least 1")
    if not 0 <= max_upload <= 1 << 20:
        raise ServeError(f"--max-upload {max_upload}: megabytes, 0 for none")


@dataclass(frozen=True)
class _Reading:
    """What a model reads: a first text, then what the page sends."""

    model: str | None
    text: str | None
    pair: str | None
    max_tokens: int | None
    offload: str | None
    device: str

    def check(self) -> None:
        """Finds mistakes before anything is loaded."""
        if self.text is None and (self.pair is not None or self.offload is not None):
            raise ServeError("--pair and --offload need --text: a text to read")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ServeError(f"--max-tokens {self.max_tokens}: at least 1")
        if self.offload not in (None, "disk"):
            raise ServeError(f"--offload {self.offload}: only disk")

    def begin(self, service: Service, text: str | None) -> None:
        """Gives the service a model that reads what the page sends, and reads the first text now, if any."""
        from sightline.commands.opening import open_model
        from sightline.view.server.reader import Reader

        opening = partial(open_model, device=chosen_device(self.device))
        reader = service.reader = Reader(self.model, opening, service.add, self.max_tokens)
        if text is None:
            return
        first, second = read_source(text), None if self.pair is None else read_source(self.pair)
        if sys.stderr.isatty():
            print(f"sightline: {self.model or 'the default model'} reads", file=sys.stderr)
        service.add(reader.read_now(first, second, self.offload))

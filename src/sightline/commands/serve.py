"""``sightline serve``: traces in the browser, of any length."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.reading.source import read_source
from sightline.view.server.catalogue import ServeError, open_files

if TYPE_CHECKING:
    from sightline.view.server.service import Service

PORT = 8417
EXAMPLE = "The cat sat on the mat."


def serve(
    traces: Annotated[
        list[Path] | None, typer.Argument(metavar="[TRACE]...", help="Saved traces: trace.save(FILE).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="As for look: it reads --text, and what is typed in the page."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="A text, a text file, or - for standard input: what to read first.")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="A second text: a pair, or the target of a translation.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Use at most this many tokens of a text.")] = None,
    offload: Annotated[
        str | None, typer.Option(metavar="disk", help="Keep what --text gives in memory-mapped files.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Which batch entry of saved traces to show.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any that is free.")] = PORT,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    cache: Annotated[int, typer.Option(help="Megabytes of computed tiles to keep.")] = 128,
    max_upload: Annotated[
        int, typer.Option(help="Megabytes of traces that the page may send; 0 for none.")
    ] = 512,
) -> None:
    """Look into attention in the browser: saved traces, or a model and a text, of any length."""
    _check(text, pair, max_tokens, offload, port, cache, max_upload)
    from sightline.view.server.app import create_app
    from sightline.view.server.guard import allowed_hosts
    from sightline.view.server.running import Server, bind
    from sightline.view.server.service import Service
    from sightline.view.server.uploads import Uploads

    listening = bind(host, port)
    try:
        service = Service(open_files(traces or [], batch), cache << 20)
        if max_upload:
            service.uploads = Uploads(max_upload)
        if model is not None or text is not None or not traces:
            _add_reader(service, model, text or (None if traces else EXAMPLE), pair, max_tokens, offload)
        address = _address(host, listening.getsockname()[1])

        def ready() -> None:
            count = len(service.traces)
            print(f"Sightline shows {count} trace(s) at {address}  (Ctrl-C ends)", flush=True)
            if open_:
                import webbrowser

                webbrowser.open(address)

        app = create_app(service, allowed_hosts(host, listening.getsockname()[1]))
        Server(app, ready, service.stop).run(sockets=[listening])
    finally:
        listening.close()


def _address(host: str, port: int) -> str:
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"sightline: --host {host}: every machine that reaches this one can read these traces",
            file=sys.stderr,
        )
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


def _check(
    text: str | None,
    pair: str | None,
    max_tokens: int | None,
    offload: str | None,
    port: int,
    cache: int,
    max_upload: int,
) -> None:
    """What can be told before anything is loaded."""
    if text is None and (pair is not None or offload is not None):
        raise ServeError("--pair and --offload need --text: a text to read")
    if max_tokens is not None and max_tokens < 1:
        raise ServeError(f"--max-tokens {max_tokens}: at least 1")
    if offload not in (None, "disk"):
        raise ServeError(f"--offload {offload}: only disk")
    if not 0 <= port <= 65535:
        raise ServeError(f"--port {port}: from 0 to 65535")
    if not 1 <= cache <= 1 << 20:
        raise ServeError(f"--cache {cache}: megabytes, at least 1")
    if not 0 <= max_upload <= 1 << 20:
        raise ServeError(f"--max-upload {max_upload}: megabytes, 0 for none")


def _add_reader(
    service: Service,
    model: str | None,
    text: str | None,
    pair: str | None,
    max_tokens: int | None,
    offload: str | None,
) -> None:
    """Adds a model that reads what the page sends, and reads the first text now."""
    from sightline.commands.opening import open_model
    from sightline.view.server.reader import Reader

    reader = service.reader = Reader(model, open_model, service.add, max_tokens)
    if text is None:
        return
    first, second = read_source(text), None if pair is None else read_source(pair)
    if sys.stderr.isatty():
        print(f"sightline: {model or 'the default model'} reads", file=sys.stderr)
    service.add(reader.read_now(first, second, offload))

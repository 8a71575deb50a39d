"""``sightline serve``: traces in the browser, of any length."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.view.server.catalogue import Open, ServeError, open_calls, open_files

PORT = 8417


def serve(
    traces: Annotated[
        list[Path] | None, typer.Argument(metavar="[TRACE]...", help="Saved traces: trace.save(FILE).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Trace this model (Hugging Face name or folder) over --text.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="A text, a text file, or - for standard input: trace a model over it.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Use at most this many tokens of the text.")] = None,
    offload: Annotated[
        str | None, typer.Option(metavar="disk", help="Keep what is traced in memory-mapped files.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any that is free.")] = PORT,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    cache: Annotated[int, typer.Option(help="Megabytes of computed tiles to keep.")] = 128,
) -> None:
    """Show traces in the browser, of any length."""
    _check(traces, model, text, max_tokens, offload, port, cache)
    from sightline.view.server.app import create_app
    from sightline.view.server.guard import allowed_hosts
    from sightline.view.server.running import Server, bind
    from sightline.view.server.service import Service

    listening = bind(host, port)
    try:
        opened = open_files(traces or [])
        if text is not None:
            opened.append(_traced(model, text, max_tokens, offload))
        place = listening.getsockname()[1]
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"sightline: --host {host}: every machine that reaches this one can read these traces",
                file=sys.stderr,
            )
        shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{place}/"

        def ready() -> None:
            print(f"Sightline shows {len(opened)} trace(s) at {address}  (Ctrl-C ends)", flush=True)
            if open_:
                import webbrowser

                webbrowser.open(address)

        service = Service(opened, cache << 20)
        app = create_app(service, allowed_hosts(host, place))
        Server(app, ready, service.jobs.stop).run(sockets=[listening])
    finally:
        listening.close()


def _check(
    traces: list[Path] | None,
    model: str | None,
    text: str | None,
    max_tokens: int | None,
    offload: str | None,
    port: int,
    cache: int,
) -> None:
    """What can be told before anything is loaded."""
    if not traces and text is None:
        raise ServeError("nothing to show: give a saved trace, or --text FILE and perhaps --model MODEL")
    if text is None and (model is not None or max_tokens is not None or offload is not None):
        raise ServeError("--model, --max-tokens and --offload need --text: a text to run the model over")
    if max_tokens is not None and max_tokens < 1:
        raise ServeError(f"--max-tokens {max_tokens}: at least 1")
    if offload not in (None, "disk"):
        raise ServeError(f"--offload {offload}: only disk")
    if not 0 <= port <= 65535:
        raise ServeError(f"--port {port}: from 0 to 65535")
    if not 1 <= cache <= 1 << 20:
        raise ServeError(f"--cache {cache}: megabytes, at least 1")


def _traced(model: str | None, text: str, max_tokens: int | None, offload: str | None) -> Open:
    """A trace of a model over a text; what it keeps is linear in the text."""
    from sightline.huggingface.load import load_model
    from sightline.trace import trace
    from sightline.view.reading import read
    from sightline.view.source import read_source

    words = read_source(text)
    loaded = load_model(model)
    if loaded.encoder_decoder:
        raise ServeError(f"--model {model}: has a decoder of its own; trace it in Python and serve the file")
    print(f"sightline: tracing {loaded.name}", file=sys.stderr)
    with trace(loaded.model, offload=offload) as caught:
        reading = read(loaded, words, None, max_tokens)
    caught.tokens = [token.text for token in reading.sections[0].keys]
    caught.notices += reading.notices
    caught.model = loaded.name
    return open_calls(caught, loaded.name)

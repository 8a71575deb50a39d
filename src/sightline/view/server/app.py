"""The routes: the page, and what it asks about the traces. docs/serve.md describes every answer."""

from __future__ import annotations

import json
import math
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from sightline.trace.media import Picture
from sightline.view.about import page_tokens
from sightline.view.modules import names, source
from sightline.view.pyramid import Tile, top_level
from sightline.view.server import readings
from sightline.view.server.asked import Head, RefusedError, find_head, find_trace, integer, word
from sightline.view.server.cancel import Cancel, StoppedError
from sightline.view.server.catalogue import Open
from sightline.view.server.flow import relevance, rollout
from sightline.view.server.guard import Guard
from sightline.view.server.jobs import BusyError, Job, Urgency
from sightline.view.server.reader import TooManyError
from sightline.view.server.service import Service
from sightline.view.server.stages import stages
from sightline.view.server.waiting import Generations, wait
from sightline.view.tokens import Token, places_of

#: Tokens of one page of tokens at most.
PAGE = 4096
#: Bytes of a text that the page sends at most.
TEXT = 1 << 20
#: Keys of a query whose stages are told at most.
KEYS = 100
#: Queries of a row, or keys of a column, at most.
SPAN = 64
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
_NEVER = {"cache-control": "no-store"}
_SUFFIXES = (".js", ".css")


def create_app(service: Service, hosts: frozenset[str] | None) -> Starlette:
    """The application for some open traces; ``hosts`` are the allowed values of Host, ``None`` for all."""
    answers = _Answers(service)
    here = "/api/traces/{trace}"
    call = here + "/calls/{call:int}"
    routes = [
        Route("/", answers.page),
        Route("/web/{name:path}", answers.module),
        Route("/api/traces", answers.traces),
        Route("/api/read", answers.read, methods=["POST"]),
        Route("/api/jobs/{job}", answers.job, methods=["GET", "DELETE"]),
        Route("/api/upload", answers.upload, methods=["POST"]),
        Route(here, answers.about),
        Route(here + "/tokens", answers.tokens),
        Route(here + "/find", answers.find),
        Route(here + "/flow", answers.flow),
        Route(here + "/medium", answers.medium),
        Route(call + "/tile", answers.tile),
        Route(call + "/progress", answers.progress),
        Route(call + "/cell", answers.cell),
        Route(call + "/row", answers.row),
        Route(call + "/column", answers.column),
        Route(call + "/stages", answers.stages),
        Route(call + "/entropy", answers.entropy),
        Route(call + "/received", answers.received),
        Route(call + "/numbers", answers.numbers),
        Route(call + "/thumbnails", answers.thumbnails),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.stop()

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RefusedError: _refused,
        BusyError: _busy,
        StoppedError: _cancelled,
        HTTPException: _http,
        Exception: _failed,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.add_middleware(Guard, hosts=hosts)
    return app


class _Answers:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.generations = Generations()
        self.web = _web()

    # --- the page ---------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        return Response(self.web["page.html"], media_type="text/html", headers=_NEVER)

    async def module(self, request: Request) -> Response:
        # A look-up in what was read at the start: no path of a request reaches the file system.
        name = request.path_params["name"]
        if name not in self.web or not name.endswith(_SUFFIXES):
            raise RefusedError(404, "There is no such part of the page.")
        kind = mimetypes.types_map.get(name[name.rindex(".") :], "text/plain")
        return Response(self.web[name], media_type=kind, headers=_NEVER)

    # --- traces and tokens ------------------------------------------------------------------------

    async def traces(self, request: Request) -> Response:
        from sightline._version import __version__

        found = [trace.summary() for trace in self.service.traces.values()]
        can = {"read": self.service.reader is not None, "upload": self.service.uploads is not None}
        return _json({"version": __version__, "can": can, "traces": found})

    async def about(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self._trace(request).about))

    async def tokens(self, request: Request) -> Response:
        tokens = self._side(request)
        start = integer(request.query_params, "from", 0, len(tokens), 0)
        count = integer(request.query_params, "count", 1, PAGE, PAGE)
        page = page_tokens(tokens[start : start + count])
        return _json({"from": start, "of": len(tokens), **page})

    async def find(self, request: Request) -> Response:
        tokens = self._side(request)
        wanted = request.query_params.get("text", "").strip().casefold()
        if not wanted or len(wanted) > 200:
            raise RefusedError(400, "text: give 1 to 200 characters to look for.")
        start = integer(request.query_params, "from", 0, len(tokens), 0)
        places = await run_in_threadpool(places_of, tokens, wanted)
        return _json({"found": [*(p for p in places if p >= start), *(p for p in places if p < start)][:50]})

    def _trace(self, request: Request) -> Open:
        return find_trace(self.service.traces, request.path_params["trace"])

    def _side(self, request: Request) -> tuple[Token, ...]:
        sides = self._trace(request).sides
        return sides[integer(request.query_params, "side", 0, len(sides) - 1, 0)]

    async def medium(self, request: Request) -> Response:
        medium = self._trace(request).reading.medium
        if medium is None:
            raise RefusedError(404, "This trace has neither image nor sound.")
        if isinstance(medium, Picture):
            opaque = torch.full((*medium.pixels.shape[:2], 1), 255, dtype=torch.uint8)
            pixels = torch.cat([medium.pixels, opaque], 2)
            return _floats(pixels.numpy().tobytes(), tuple(pixels.shape), _NEVER)
        frames = medium.frames.numpy().astype("<f4", copy=False)
        return _floats(frames.tobytes(), tuple(frames.shape), _NEVER)

    # --- new traces -------------------------------------------------------------------------------

    async def read(self, request: Request) -> Response:
        reader = self.service.reader
        if reader is None:
            raise RefusedError(404, "No model is here to read a text: start sightline serve with --model.")
        texts = await _json_body(request)
        text, pair = texts.get("text"), texts.get("pair")
        if not isinstance(text, str) or not text.strip() or not isinstance(pair, str | None):
            raise RefusedError(400, "text: give a text that is not empty, and perhaps a pair.")
        if _is_broken(text + (pair or "")):
            raise RefusedError(400, "text: holds half a surrogate pair, which is no character.")
        try:
            return _json({"job": reader.start(text, pair or None).id})
        except TooManyError:
            raise RefusedError(503, "Other texts are still being read. Try again in a moment.") from None

    async def job(self, request: Request) -> Response:
        found = None if self.service.reader is None else self.service.reader.find(request.path_params["job"])
        if found is None:
            raise RefusedError(404, "There is no such job.")
        if request.method == "DELETE":
            found.cancel.set()
        return _json(found.about())

    async def upload(self, request: Request) -> Response:
        uploads = self.service.uploads
        if uploads is None:
            raise RefusedError(404, "Uploads are switched off here.")
        _need_type(request, "application/octet-stream")
        opened = await uploads.take(request.query_params.get("name", ""), request.stream())
        self.service.add(opened)
        return _json({"trace": opened.id})

    # --- the map ----------------------------------------------------------------------------------

    async def tile(self, request: Request) -> Response:
        query, head = request.query_params, self._head(request)
        last = 1 << 20
        tile = Tile(
            integer(query, "level", 0, top_level(*head.size)),
            integer(query, "row", 0, last),
            integer(query, "column", 0, last),
        )
        reduce = word(query, "reduce", ("mean", "max"))
        quick = word(query, "quality", ("exact", "quick")) == "quick"
        place = (*head.key, tile.level, tile.row, tile.column, reduce)
        tag = f'"{"-".join(map(str, place))}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag, **_FOREVER})
        try:
            found = self.service.tile(head, tile, reduce, quick)
        except ValueError as error:
            raise RefusedError(404, str(error)) from None
        if isinstance(found, Job):
            result = await wait(request, self.service.jobs, found, self.generations)
            found = self.service.finished(result, head, tile, reduce)
        lasting = _NEVER if found.sampled else {"etag": tag, **_FOREVER}
        return _floats(found.data, found.shape, lasting, found.sampled)

    async def progress(self, request: Request) -> Response:
        overview = self.service.overview(self._head(request))
        return _json({"share": overview.share, "exact": overview.exact})

    # --- readouts ---------------------------------------------------------------------------------

    async def cell(self, request: Request) -> Response:
        head = self._head(request)
        query, key = self._query(request, head), self._key(request, head)
        return await self._read_json(
            request, head, ("cell", query, key), lambda _: readings.cell(head.matrix, head.head, query, key)
        )

    async def row(self, request: Request) -> Response:
        head = self._head(request)
        start, stop = self._span(request, "query", head.size[0])
        return await self._read(
            request,
            head,
            ("row", start, stop),
            lambda _: readings.row(head.matrix, head.head, start, stop),
        )

    async def column(self, request: Request) -> Response:
        head = self._head(request)
        start, stop = self._span(request, "key", head.size[1])
        return await self._read(
            request,
            head,
            ("column", start, stop),
            lambda cancel: readings.column(head.matrix, head.head, start, stop, cancel),
            self.service.urgency_of_pass(head, stop - start),
        )

    async def stages(self, request: Request) -> Response:
        head, one = self._one(request, "stages")
        query, k = self._query(request, head), integer(request.query_params, "k", 1, KEYS, 12)
        return await self._read_json(
            request, head, ("stages", query, k), lambda _: stages(head.layer, one, query, k)
        )

    async def entropy(self, request: Request) -> Response:
        head, _ = self._one(request, "entropy")
        return await self._read(
            request,
            head,
            ("entropy",),
            lambda cancel: readings.entropy(head.matrix, cancel),
            self.service.urgency_of_pass(head),
        )

    async def received(self, request: Request) -> Response:
        head = self._head(request)
        return await self._read(
            request,
            head,
            ("received",),
            lambda cancel: readings.received(head.matrix, head.head, cancel),
            self.service.urgency_of_pass(head),
        )

    async def thumbnails(self, request: Request) -> Response:
        head = self._every(request)
        return await self._read(
            request,
            head,
            ("thumbnails",),
            lambda cancel: readings.thumbnails(head.matrix, cancel),
            sampled=not readings.is_whole(head.matrix),
        )

    async def numbers(self, request: Request) -> Response:
        head = self._every(request)
        section, at = head.trace.calls[head.call]
        # Labels take passes in plain PyTorch, for which no pointer should wait.
        urgency = Urgency.EXACT if readings.are_labelled(section, at) else Urgency.QUICK
        return await self._read_json(
            request, head, ("numbers",), lambda cancel: readings.numbers(section, at, cancel), urgency
        )

    async def flow(self, request: Request) -> Response:
        query, trace = request.query_params, self._trace(request)
        name = word(query, "name", ("rollout", "relevance"))
        direction = word(query, "direction", ("to", "from"))
        named = {section.name: section for section in trace.reading.sections if section.is_self}
        section = named.get(query.get("section", ""))
        if section is None:
            raise RefusedError(404, f"section: must be {' or '.join(named) or 'one of self-attention'}.")
        if name == "relevance" and not section.gradients:
            raise RefusedError(404, "name: relevance needs a trace with gradients=True and a backward pass.")
        length = len(section.queries)
        start = integer(query, "from", 0, length - 1)
        stop = integer(query, "to", start + 1, min(length, start + SPAN), start + 1)
        first = next(call for call, (each, _) in enumerate(trace.calls) if each is section)
        head = Head(trace, first, "mean")

        def compute(cancel: Cancel) -> Tensor:
            if name == "relevance":
                return relevance(section, direction, start, stop, cancel)
            return rollout(section.layers, direction, start, stop, cancel)

        key = (name, direction, start, stop)
        return await self._read(request, head, key, compute, Urgency.WHOLE)

    # --- common -----------------------------------------------------------------------------------

    def _head(self, request: Request) -> Head:
        return find_head(self._trace(request), request.path_params["call"], request.query_params)

    def _every(self, request: Request) -> Head:
        """All heads of a call."""
        every = {**request.query_params, "head": "mean"}
        return find_head(self._trace(request), request.path_params["call"], every)

    def _one(self, request: Request, what: str) -> tuple[Head, int]:
        head = self._head(request)
        if isinstance(head.head, str):
            raise RefusedError(400, f"head: {what} are of one head, not of the {head.head} over heads.")
        return head, head.head

    def _query(self, request: Request, head: Head) -> int:
        return integer(request.query_params, "query", 0, head.size[0] - 1)

    def _span(self, request: Request, name: str, length: int) -> tuple[int, int]:
        """From a query or key up to before ``to``, by default that one."""
        start = integer(request.query_params, name, 0, length - 1)
        return start, integer(request.query_params, "to", start + 1, min(length, start + SPAN), start + 1)

    def _key(self, request: Request, head: Head) -> int:
        return integer(request.query_params, "key", 0, head.size[1] - 1)

    async def _compute(
        self, request: Request, head: Head, key: tuple[Any, ...], compute: Any, urgency: Urgency
    ) -> Any:
        known = self.service.cache.get((head.key, key))
        if known is None:
            job = self.service.read((head.key, key), urgency, compute)
            known = await wait(request, self.service.jobs, job, self.generations)
            size = known.nbytes if isinstance(known, Tensor) else 4096
            self.service.cache.put((head.key, key), known, size)
        return known

    async def _read_json(
        self,
        request: Request,
        head: Head,
        key: tuple[Any, ...],
        compute: Callable[[Cancel], Any],
        urgency: Urgency = Urgency.QUICK,
    ) -> Response:
        return _json(await self._compute(request, head, key, compute, urgency))

    async def _read(
        self,
        request: Request,
        head: Head,
        key: tuple[Any, ...],
        compute: Callable[[Cancel], Tensor],
        urgency: Urgency = Urgency.QUICK,
        sampled: bool = False,
    ) -> Response:
        values = (await self._compute(request, head, key, compute, urgency)).to(torch.float32).contiguous()
        data = values.numpy().astype("<f4", copy=False).tobytes()
        return _floats(data, tuple(values.shape), _NEVER, sampled)


def _web() -> dict[str, bytes]:
    """Every part of the page, by its name under ``web/``; the page itself for a server."""
    links = "".join(f'<link rel="stylesheet" href="/web/{name}">\n' for name in names(".css"))
    fill = {
        "csp": "",  # the server says it with every answer
        "title": "Sightline",
        "styles": links,
        "data": "",
        "script": '<script type="module" src="/web/main.js"></script>',
    }
    page = source("page.html")
    for slot, value in fill.items():
        page = page.replace(f"{{{{{slot}}}}}", value)
    parts = {name: source(name).encode() for suffix in _SUFFIXES for name in names(suffix)}
    return parts | {"page.html": page.encode()}


def _need_type(request: Request, wanted: str) -> None:
    """A form of another site's page can send none of the types that are taken here without asking first."""
    found = request.headers.get("content-type", "").split(";")[0].strip()
    if found != wanted:
        raise RefusedError(415, f"Content-Type: must be {wanted}, got {found[:40]!r}.")


async def _json_body(request: Request) -> dict[str, Any]:
    """An object of the body, of up to ``TEXT`` bytes."""
    _need_type(request, "application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > TEXT:
            raise RefusedError(413, f"The text is longer than {TEXT} bytes: give a file to --text.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "The request is no JSON.") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "The request is no JSON object.")
    return found


def _is_broken(text: str) -> bool:
    """Whether JSON's escapes made what UTF-8 cannot say: neither tokenizers nor answers take it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _json(value: Any) -> Response:
    return JSONResponse(_finite(value), headers=_NEVER)


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _floats(data: bytes, shape: tuple[int, ...], headers: dict[str, str], sampled: bool = False) -> Response:
    about = {"x-sightline-shape": ",".join(map(str, shape)), "x-sightline-sampled": str(int(sampled))}
    return Response(data, media_type="application/octet-stream", headers={**about, **headers})


def _told(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, headers=_NEVER)


async def _refused(request: Request, error: RefusedError) -> Response:
    return _told(error.status, str(error))


async def _busy(request: Request, error: BusyError) -> Response:
    return _told(503, "Too many computations are waiting. Try again in a moment.")


async def _cancelled(request: Request, error: StoppedError) -> Response:
    return _told(409, "The computation was stopped.")


async def _http(request: Request, error: HTTPException) -> Response:
    return _told(error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    return _told(500, f"{type(error).__name__}: {error}")

"""The routes: the page, and what it asks about the traces. docs/serve.md describes every answer."""

from __future__ import annotations

import math
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from sightline.view.pyramid import Tile, top_level
from sightline.view.server import readings
from sightline.view.server.asked import Head, RefusedError, find_head, find_trace, integer, word
from sightline.view.server.cancel import Cancel, StoppedError
from sightline.view.server.guard import Guard
from sightline.view.server.jobs import BusyError, Job, Urgency
from sightline.view.server.service import Service
from sightline.view.server.waiting import Generations, wait

#: Tokens of one page of tokens at most.
PAGE = 4096
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
        Route(here, answers.about),
        Route(here + "/tokens", answers.tokens),
        Route(here + "/find", answers.find),
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
        service.jobs.stop()

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
        return Response(self.web["served/page.html"], media_type="text/html", headers=_NEVER)

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
        return _json({"version": __version__, "traces": found})

    async def about(self, request: Request) -> Response:
        return _json(find_trace(self.service.traces, request.path_params["trace"]).about())

    async def tokens(self, request: Request) -> Response:
        names = self._tokens(request)
        start = integer(request.query_params, "from", 0, len(names), 0)
        count = integer(request.query_params, "count", 1, PAGE, PAGE)
        return _json({"from": start, "of": len(names), "tokens": names[start : start + count]})

    async def find(self, request: Request) -> Response:
        names = self._tokens(request)
        wanted = request.query_params.get("text", "").strip().casefold()
        if not wanted or len(wanted) > 200:
            raise RefusedError(400, "text: give 1 to 200 characters to look for.")
        start = integer(request.query_params, "from", 0, len(names), 0)
        order = [*range(start, len(names)), *range(start)]
        hits = (i for i in order if wanted in names[i].casefold())
        return _json({"found": [i for i, _ in zip(hits, range(50), strict=False)]})

    def _tokens(self, request: Request) -> list[str]:
        tokens = find_trace(self.service.traces, request.path_params["trace"]).tokens
        if tokens is None:
            raise RefusedError(404, "This trace was saved without tokens.")
        return tokens

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
        head = self._one(request, "stages")
        query, k = self._query(request, head), integer(request.query_params, "k", 1, KEYS, 12)
        return await self._read_json(
            request, head, ("stages", query, k), lambda _: readings.stages(head.matrix, query, k)
        )

    async def entropy(self, request: Request) -> Response:
        head = self._one(request, "entropy")
        return await self._read(
            request,
            head,
            ("entropy",),
            lambda cancel: readings.entropy(head.matrix, cancel),
            self.service.urgency_of_pass(head),
        )

    async def received(self, request: Request) -> Response:
        head = self._one(request, "received")
        return await self._read(
            request,
            head,
            ("received",),
            lambda cancel: readings.received(head.matrix, cancel),
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

        def compute(cancel: Cancel) -> Any:
            return readings.numbers(head.matrix, head.call.kind == "self", cancel)

        return await self._read_json(request, head, ("numbers",), compute)

    # --- common -----------------------------------------------------------------------------------

    def _head(self, request: Request) -> Head:
        trace = find_trace(self.service.traces, request.path_params["trace"])
        return find_head(trace, request.path_params["call"], request.query_params)

    def _every(self, request: Request) -> Head:
        """All heads of a call."""
        trace = find_trace(self.service.traces, request.path_params["trace"])
        return find_head(trace, request.path_params["call"], {**request.query_params, "head": "mean"})

    def _one(self, request: Request, what: str) -> Head:
        head = self._head(request)
        if isinstance(head.head, str):
            raise RefusedError(400, f"head: {what} are of one head, not of the {head.head} over heads.")
        return head

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
        self, request: Request, head: Head, key: tuple[Any, ...], compute: Callable[[Cancel], Any]
    ) -> Response:
        return _json(await self._compute(request, head, key, compute, Urgency.QUICK))

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
    """Every part of the page, by its name under ``web/``."""
    root = files("sightline.view") / "web"
    found = {each.name: each.read_bytes() for each in root.iterdir() if each.is_file()}
    served = (each for each in (root / "served").iterdir() if each.is_file())
    return found | {f"served/{each.name}": each.read_bytes() for each in served}


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

"""Tiles and readouts of one call of a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor

from sightline.view.lens import lens_at
from sightline.view.pyramid import Tile, top_level
from sightline.view.server import readings
from sightline.view.server.asked import Head, RefusedError, find_head, find_trace, integer, word
from sightline.view.server.cancel import Cancel
from sightline.view.server.catalogue import OpenTrace
from sightline.view.server.flow import relevance, rollout
from sightline.view.server.jobs import Computation, Urgency
from sightline.view.server.responses import FOREVER, NEVER, floats_answer, json_answer
from sightline.view.server.service import Service
from sightline.view.server.stages import stages
from sightline.view.server.waiting import Generations, wait

#: The most keys of a query whose stages are reported.
KEYS = 100
#: The most queries of a row, or keys of a column, in one request.
SPAN = 64


class NumberRoutes:
    """Routes that compute: each result once for all clients, cached, and stopped when nobody waits."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.generations = Generations()
        here = "/api/traces/{trace}"
        call = here + "/calls/{call:int}"
        of_calls = {
            "tile": self.tile,
            "progress": self.progress,
            "cell": self.cell,
            "row": self.row,
            "column": self.column,
            "stages": self.stages,
            "entropy": self.entropy,
            "received": self.received,
            "numbers": self.numbers,
            "thumbnails": self.thumbnails,
        }
        self.routes = [Route(f"{call}/{name}", answer) for name, answer in of_calls.items()]
        self.routes += [Route(here + "/flow", self.flow), Route(here + "/lens", self.lens)]

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
            return Response(status_code=304, headers={"etag": tag, **FOREVER})
        try:
            tile_or_job = self.service.tile(head, tile, reduce, quick)
        except ValueError as error:
            raise RefusedError(404, str(error)) from None
        if isinstance(tile_or_job, Computation):
            result = await wait(request, self.service.jobs, tile_or_job, self.generations)
            tile_or_job = self.service.finished(result, head, tile, reduce)
        lasting = NEVER if tile_or_job.sampled else {"etag": tag, **FOREVER}
        return floats_answer(tile_or_job.data, tile_or_job.shape, lasting, tile_or_job.sampled)

    async def progress(self, request: Request) -> Response:
        overview = self.service.overview(self._head(request))
        return json_answer({"share": overview.share, "exact": overview.exact})

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
        # Labels take passes in plain PyTorch, for which hovering must not wait.
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

    async def lens(self, request: Request) -> Response:
        trace = self._trace(request)
        lens = trace.reading.lens
        if lens is None:
            raise RefusedError(404, "What this trace's vectors say in words was not recorded.")
        position = integer(request.query_params, "position", 0, lens.stream.size[1] - 1)

        def compute(_: Cancel) -> dict[str, Any]:
            try:
                return lens_at(lens, position)
            except ValueError as error:
                raise RefusedError(409, str(error)) from None

        whole = Head(trace, 0, "mean")
        return await self._read_json(request, whole, ("lens", position), compute, Urgency.EXACT)

    def _trace(self, request: Request) -> OpenTrace:
        return find_trace(self.service.traces, request.path_params["trace"])

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
        return json_answer(await self._compute(request, head, key, compute, urgency))

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
        return floats_answer(data, tuple(values.shape), NEVER, sampled)

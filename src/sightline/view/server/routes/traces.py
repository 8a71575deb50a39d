"""The open traces: what they are, their tokens, the image or the sound."""

from __future__ import annotations

import torch
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline._version import __version__
from sightline.reading.tokens import Token, places_of
from sightline.tracing.media import Picture
from sightline.view.about import page_tokens
from sightline.view.server.asked import RefusedError, find_trace, integer
from sightline.view.server.catalogue import OpenTrace
from sightline.view.server.responses import NEVER, floats_answer, json_answer
from sightline.view.server.service import Service

#: The most tokens in one answer.
PAGE = 4096


class TraceRoutes:
    """Routes about traces as a whole."""

    def __init__(self, service: Service) -> None:
        self.service = service
        here = "/api/traces/{trace}"
        self.routes = [
            Route("/api/traces", self.traces),
            Route(here, self.about),
            Route(here + "/tokens", self.tokens),
            Route(here + "/find", self.find),
            Route(here + "/medium", self.medium),
        ]

    async def traces(self, request: Request) -> Response:
        traces = [trace.summary() for trace in self.service.traces.values()]
        can = {"read": self.service.reader is not None, "upload": self.service.uploads is not None}
        return json_answer({"version": __version__, "can": can, "traces": traces})

    async def about(self, request: Request) -> Response:
        return json_answer(await run_in_threadpool(self._trace(request).about))

    async def tokens(self, request: Request) -> Response:
        tokens = self._side(request)
        start = integer(request.query_params, "from", 0, len(tokens), 0)
        count = integer(request.query_params, "count", 1, PAGE, PAGE)
        page = page_tokens(tokens[start : start + count])
        return json_answer({"from": start, "of": len(tokens), **page})

    async def find(self, request: Request) -> Response:
        tokens = self._side(request)
        wanted = request.query_params.get("text", "").strip()
        if not wanted or len(wanted) > 200:
            raise RefusedError(400, "text: give 1 to 200 characters to look for.")
        start = integer(request.query_params, "from", 0, len(tokens), 0)
        places = await run_in_threadpool(places_of, tokens, wanted)
        return json_answer(
            {"found": [*(p for p in places if p >= start), *(p for p in places if p < start)][:50]}
        )

    async def medium(self, request: Request) -> Response:
        medium = self._trace(request).reading.medium
        if medium is None:
            raise RefusedError(404, "This trace has neither image nor sound.")
        if isinstance(medium, Picture):
            opaque = torch.full((*medium.pixels.shape[:2], 1), 255, dtype=torch.uint8)
            pixels = torch.cat([medium.pixels, opaque], 2)
            return floats_answer(pixels.numpy().tobytes(), tuple(pixels.shape), NEVER)
        frames = medium.frames.numpy().astype("<f4", copy=False)
        return floats_answer(frames.tobytes(), tuple(frames.shape), NEVER)

    def _trace(self, request: Request) -> OpenTrace:
        return find_trace(self.service.traces, request.path_params["trace"])

    def _side(self, request: Request) -> tuple[Token, ...]:
        sides = self._trace(request).sides
        return sides[integer(request.query_params, "side", 0, len(sides) - 1, 0)]

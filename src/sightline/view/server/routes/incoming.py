"""New traces: texts that the page sends to the model, changes of these, and saved traces that it uploads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline.interventions.written import read_changes
from sightline.view.server.asked import RefusedError, find_trace
from sightline.view.server.catalogue import OpenTrace
from sightline.view.server.reader import Reader, ReadJob, TooManyError
from sightline.view.server.responses import json_answer
from sightline.view.server.service import Service
from sightline.view.server.whatif import rooms_of

#: The most bytes of a text that the page may send.
TEXT = 1 << 20


class IncomingRoutes:
    """Routes that change the list of open traces."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.routes = [
            Route("/api/read", self.read, methods=["POST"]),
            Route("/api/traces/{trace}/what-if", self.what_if, methods=["POST"]),
            Route("/api/traces/{trace}/effects", self.effects, methods=["POST"]),
            Route("/api/jobs/{job}", self.job, methods=["GET", "DELETE"]),
            Route("/api/upload", self.upload, methods=["POST"]),
        ]

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
        return _begun(lambda: reader.start(text, pair or None))

    async def what_if(self, request: Request) -> Response:
        """The text of a trace once more, with changes of what the model looks at."""
        reader, base = self._asked(request)
        body = await _json_body(request)
        try:
            changes = read_changes(body.get("changes"), rooms_of(base.reading))
        except ValueError as error:
            raise RefusedError(400, str(error)) from None
        return _begun(lambda: reader.what_if(base, changes))

    async def effects(self, request: Request) -> Response:
        """What each head does to the answer."""
        reader, base = self._asked(request)
        await _json_body(request)
        return _begun(lambda: reader.effects(base))

    def _asked(self, request: Request) -> tuple[Reader, OpenTrace]:
        """The model, and the trace of a text that it read."""
        base = find_trace(self.service.traces, request.path_params["trace"])
        reader = self.service.reader
        if reader is None or base.asked is None:
            raise RefusedError(409, "what if: the model of this trace is not here; open a text with --model.")
        if base.asked.of is not None:
            raise RefusedError(
                409, "what if: this trace is a change itself; change the one that it came from."
            )
        return reader, base

    async def job(self, request: Request) -> Response:
        job = None if self.service.reader is None else self.service.reader.find(request.path_params["job"])
        if job is None:
            raise RefusedError(404, "There is no such job.")
        if request.method == "DELETE":
            job.cancel.set()
        return json_answer(job.about())

    async def upload(self, request: Request) -> Response:
        uploads = self.service.uploads
        if uploads is None:
            raise RefusedError(404, "Uploads are switched off here.")
        _need_type(request, "application/octet-stream")
        opened = await uploads.take(request.query_params.get("name", ""), request.stream())
        self.service.add(opened)
        return json_answer({"trace": opened.id})


def _begun(start: Callable[[], ReadJob]) -> Response:
    try:
        return json_answer({"job": start().id})
    except TooManyError:
        raise RefusedError(503, "Other texts are still being read. Try again in a moment.") from None


def _need_type(request: Request, wanted: str) -> None:
    """No form of another site can send the content types accepted here without a preflight request."""
    sent = request.headers.get("content-type", "").split(";")[0].strip()
    if sent != wanted:
        raise RefusedError(415, f"Content-Type: must be {wanted}, got {sent[:40]!r}.")


async def _json_body(request: Request) -> dict[str, Any]:
    """The JSON object in the body, of up to ``TEXT`` bytes."""
    _need_type(request, "application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > TEXT:
            raise RefusedError(413, f"The text is longer than {TEXT} bytes: give a file to --text.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(400, "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, "The request is not a JSON object.")
    return value


def _is_broken(text: str) -> bool:
    """Whether JSON's escapes made a lone surrogate, which neither tokenizers nor answers can encode."""
    return any("\ud800" <= character <= "\udfff" for character in text)

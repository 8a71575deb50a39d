"""New traces: texts that the page sends to the model, and saved traces that it uploads."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline.view.server.asked import RefusedError
from sightline.view.server.reader import TooManyError
from sightline.view.server.responses import json_answer
from sightline.view.server.service import Service

#: The most bytes of a text that the page may send.
TEXT = 1 << 20


class IncomingRoutes:
    """Routes that change the list of open traces."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.routes = [
            Route("/api/read", self.read, methods=["POST"]),
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
        try:
            return json_answer({"job": reader.start(text, pair or None).id})
        except TooManyError:
            raise RefusedError(503, "Other texts are still being read. Try again in a moment.") from None

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

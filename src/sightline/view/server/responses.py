"""The formats of answers: JSON, raw numbers, and errors as sentences."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sightline.view.server.asked import RefusedError
from sightline.view.server.cancel import StoppedError
from sightline.view.server.jobs import BusyError

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
NEVER = {"cache-control": "no-store"}


def json_answer(value: Any) -> Response:
    """JSON that is never cached."""
    return JSONResponse(_finite(value), headers=NEVER)


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def floats_answer(
    data: bytes, shape: tuple[int, ...], headers: dict[str, str], sampled: bool = False
) -> Response:
    """Raw numbers, little-endian, with their shape."""
    about = {"x-sightline-shape": ",".join(map(str, shape)), "x-sightline-sampled": str(int(sampled))}
    return Response(data, media_type="application/octet-stream", headers={**about, **headers})


def _error_answer(status: int, text: str) -> Response:
    """An error as a sentence."""
    return JSONResponse({"error": text}, status, headers=NEVER)


async def _refused(request: Request, error: RefusedError) -> Response:
    return _error_answer(error.status, str(error))


async def _busy(request: Request, error: BusyError) -> Response:
    return _error_answer(503, "Too many computations are waiting. Try again in a moment.")


async def _cancelled(request: Request, error: StoppedError) -> Response:
    return _error_answer(409, "The computation was stopped.")


async def _http(request: Request, error: HTTPException) -> Response:
    return _error_answer(error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    return _error_answer(500, f"{type(error).__name__}: {error}")


ERRORS: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
    RefusedError: _refused,
    BusyError: _busy,
    StoppedError: _cancelled,
    HTTPException: _http,
    Exception: _failed,
}

"""Only this machine's own page may send requests, not other sites open in the same browser.

A page of another site could send requests here, or have its own name resolve to 127.0.0.1. The first shows
in Origin or Sec-Fetch-Site, the second in Host. Requests that change something must come from this origin.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

#: Bytes of a query string that are read at most.
QUERY = 2048


class Guard:
    """Answers foreign requests with 403 and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        """``hosts``: allowed values of Host; ``None`` for all (a server that listens to other machines)."""
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            status, text = refusal
            await JSONResponse({"error": text}, status)(scope, receive, secured)
            return
        await self.app(scope, receive, secured)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "").lower()
        if self.hosts is not None and host not in self.hosts:
            return 403, f"Host {host[:80]!r} is not this server: open it by the address that it printed."
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return 403, "Another site's page (Origin) may not read traces here."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            navigates = headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
            if not navigates:
                return 403, "Another site's page (Sec-Fetch-Site) may not read traces here."
        ours = origin is not None or headers.get("sec-fetch-site") == "same-origin"
        if scope["method"] not in ("GET", "HEAD") and not ours:
            return 403, f"{scope['method']} needs the page's own Origin: http://{host[:80]}."
        if len(scope.get("query_string", b"")) > QUERY:
            return 414, f"The request is longer than {QUERY} characters."
        return None


def allowed_hosts(host: str, port: int) -> frozenset[str] | None:
    """The values of Host that are allowed for a server at this address."""
    if host in ("0.0.0.0", "::"):  # nosec B104
        return None
    names = {"127.0.0.1", "localhost"} if host in ("127.0.0.1", "localhost") else {host.lower()}
    named = {f"[{name}]" if ":" in name else name for name in names}
    return frozenset({f"{name}:{port}" for name in named} | (named if port == 80 else set()))

"""The page and its parts."""

from __future__ import annotations

import mimetypes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline.view.modules import names, source
from sightline.view.server.asked import RefusedError
from sightline.view.server.responses import NEVER

_SUFFIXES = (".js", ".css")


class PageRoutes:
    """Serves everything that a browser needs to show the page, read once."""

    def __init__(self) -> None:
        self.web = _web()
        self.routes = [Route("/", self.page), Route("/web/{name:path}", self.module)]

    async def page(self, request: Request) -> Response:
        return Response(self.web["page.html"], media_type="text/html", headers=NEVER)

    async def module(self, request: Request) -> Response:
        # A look-up in what was read at the start: no path of a request reaches the file system.
        name = request.path_params["name"]
        if name not in self.web or not name.endswith(_SUFFIXES):
            raise RefusedError(404, "There is no such part of the page.")
        kind = mimetypes.types_map.get(name[name.rindex(".") :], "text/plain")
        return Response(self.web[name], media_type=kind, headers=NEVER)


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

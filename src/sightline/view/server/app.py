"""The application: the routes of the page and of what it asks, behind a guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from sightline.view.server.guard import Guard
from sightline.view.server.responses import ERRORS
from sightline.view.server.routes.incoming import IncomingRoutes
from sightline.view.server.routes.numbers import NumberRoutes
from sightline.view.server.routes.page import PageRoutes
from sightline.view.server.routes.traces import TraceRoutes
from sightline.view.server.service import Service


def create_app(service: Service, hosts: frozenset[str] | None) -> Starlette:
    """The application for some open traces; ``hosts`` are the allowed values of Host, ``None`` for all."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        service.stop()

    routes = [*PageRoutes().routes, *_routes(service)]
    app = Starlette(routes=routes, exception_handlers=ERRORS, lifespan=lifespan)
    app.add_middleware(Guard, hosts=hosts)
    return app


def create_inside_app(service: Service) -> Starlette:
    """The application for who asks from inside this process: no page, and nothing to guard against."""
    return Starlette(routes=_routes(service), exception_handlers=ERRORS)


def _routes(service: Service) -> list[BaseRoute]:
    parts = (TraceRoutes(service), IncomingRoutes(service), NumberRoutes(service))
    return [route for part in parts for route in part.routes]

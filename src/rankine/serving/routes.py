"""Paths to handlers, and the errors of a path or method that is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rankine.errors import ModelNotFound, did_you_mean
from rankine.serving.bodies import Receive
from rankine.serving.http import MethodNotAllowed, Reply, Request
from rankine.serving.quick import Quick

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["Route", "Routes"]

Handler = Callable[[Request, Receive], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path.

    Attributes:
        protocol: whose form its errors have: ``oip``, or any other for our own.
        label: under which its requests are counted and timed.
        quick: answers small ones; None where all go through ``handle``.
    """

    method: str
    protocol: str
    handle: Handler
    label: str = "http"
    quick: Quick | None = None


class Routes:
    """All paths of one server. One model is served, so that every path is known when it starts.

    Attributes:
        guarded: those whose requests need the engine.
        for_neighbors: those that other processes of the host alone may ask for.
    """

    def __init__(self, app: App) -> None:
        from rankine.serving.protocols.oip_http import oip_routes
        from rankine.serving.protocols.rank_http import rank_routes

        self._routes: dict[str, Route] = {**rank_routes(app), **oip_routes(app)}
        self._names = [app.model.name, *(f"{app.model.name}.{form}" for form in ("rank", "batch"))]
        self._version = app.model.version
        self.for_neighbors: dict[str, Route] = {}
        self.guarded = {path: route for path, route in self._routes.items() if route.method == "POST"}

    def find(self, request: Request) -> Route:
        """The route of a request.

        Raises:
            ModelNotFound: there is no such path, model or version.
            MethodNotAllowed: the path takes another method.
        """
        if request.final and request.path in self.for_neighbors:
            return self.for_neighbors[request.path]
        path = request.path.rstrip("/") or request.path  # the page itself, or one that is not there
        route = self._routes.get(path)
        if route is None:
            raise self._not_found(path)
        method = "GET" if request.method == "HEAD" else request.method
        if method != route.method:
            raise _not_allowed(request, route.method)
        return route

    def _not_found(self, path: str) -> ModelNotFound:
        parts = path.strip("/").split("/")
        if parts[:2] in (["v1", "models"], ["v2", "models"]) and len(parts) > 2:
            names = self._names[:1] if parts[0] == "v1" else self._names
            if parts[2] not in names:
                return ModelNotFound(
                    "no such model is served here", where=path, got=parts[2], hint=did_you_mean(parts[2], names)
                )
            if len(parts) > 4 and parts[3] == "versions" and parts[4] != self._version:
                return ModelNotFound("this version is not served", where=path, got=parts[4], allowed=self._version)
        return ModelNotFound("no such path", where=path[:200], hint=did_you_mean(path[:200], self._routes))


def _not_allowed(request: Request, method: str) -> MethodNotAllowed:
    allowed = "GET, HEAD" if method == "GET" else method
    return MethodNotAllowed("this path takes another method", where=request.path, got=request.method, allowed=allowed)

"""The ``/v2`` paths: the Open Inference Protocol over REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankine import __version__
from rankine.errors import BadRequest
from rankine.serving.bodies import Receive, compress
from rankine.serving.http import JSON, Header, Reply, Request, json_reply
from rankine.serving.protocols.oip import OipModel, oip_models
from rankine.serving.routes import Route

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["oip_routes"]

_BINARY = b"application/octet-stream"
_HEADER_LENGTH = b"inference-header-content-length"
_WORTH_COMPRESSING_BYTES = 1024


def oip_routes(app: App) -> dict[str, Route]:
    """The paths by name."""

    async def get_server(request: Request, receive: Receive) -> Reply:
        return json_reply({"name": "rankine", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def get_live(request: Request, receive: Receive) -> Reply:
        return json_reply({"live": True})

    async def get_ready(request: Request, receive: Receive) -> Reply:
        return json_reply({"ready": app.ready}, 200 if app.ready else 503)

    ready = Route("GET", "oip", get_ready)
    routes = {
        "/v2": Route("GET", "oip", get_server),
        "/v2/health/live": Route("GET", "oip", get_live),
        "/v2/health/ready": ready,
    }
    for name, model in oip_models(app.model, max_candidates=app.config.max_candidates).items():
        for root in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{app.model.version}"):
            routes[root] = _metadata_route(model)
            routes[f"{root}/ready"] = ready
            routes[f"{root}/infer"] = _infer_route(app, model)
    return routes


def _metadata_route(model: OipModel) -> Route:
    metadata = model.metadata()

    async def get_metadata(request: Request, receive: Receive) -> Reply:
        return json_reply(metadata)

    return Route("GET", "oip", get_metadata)


def _infer_route(app: App, model: OipModel) -> Route:
    async def post_infer(request: Request, receive: Receive) -> Reply:
        head = app.reception.admit(request)
        header_bytes = _header_length(request)
        inference = await app.with_body(
            request,
            receive,
            (JSON, _BINARY),
            lambda raw: model.prepare(
                raw, header_bytes=header_bytes, arrived_s=request.arrived_s, deadline_s=head.plan_s
            ),
        )
        outcome = await app.run(request, inference.work)
        body, json_bytes = await app.render(inference.top_k, lambda: model.reply(inference, outcome))
        headers: tuple[Header, ...] = ((b"vary", b"accept-encoding"),)
        if json_bytes is not None:
            headers += ((b"inference-header-content-length", b"%d" % json_bytes),)
        accepted = request.headers.get(b"accept-encoding")
        if accepted and len(body) >= _WORTH_COMPRESSING_BYTES:
            body, encoding = await app.in_thread(lambda: compress(body, accepted))
            if encoding:
                headers += ((b"content-encoding", encoding),)
        return Reply(200, body, JSON if json_bytes is None else _BINARY, headers)

    return Route("POST", "oip", post_infer, "oip")


def _header_length(request: Request) -> int | None:
    raw = request.headers.get(_HEADER_LENGTH)
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > 12:
        where = "header inference-header-content-length"
        raise BadRequest("must be the length of the JSON in bytes", where=where, got=raw.decode("latin-1"))
    return int(raw)

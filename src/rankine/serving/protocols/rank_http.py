"""The ``/v1`` paths: rank, models, examples; and the page and the metrics of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from rankine.errors import BadRequest, did_you_mean
from rankine.serving.bodies import Receive
from rankine.serving.describe import describe_items, describe_model
from rankine.serving.examples import MAX_EXAMPLE_IDS, MAX_EXAMPLES, example_bodies
from rankine.serving.http import JSON, Head, Reply, Request, json_reply
from rankine.serving.metrics import METRICS_TYPE
from rankine.serving.page import HTML, home_page
from rankine.serving.protocols.rank import Ranking, RankProtocol
from rankine.serving.quick import Quick
from rankine.serving.routes import Route
from rankine.serving.scrape import scrape

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["rank_routes"]

_EXAMPLE_COUNT, _EXAMPLE_CANDIDATES, _LARGEST_SEED = 64, 512, 999_999_999
_PAGE_CANDIDATES = 5


def rank_routes(app: App) -> dict[str, Route]:
    """The paths by name."""
    model, config = app.model, app.config
    rank = RankProtocol(model, max_candidates=config.max_candidates)
    description = describe_model(model, config)

    def prepare(request: Request, head: Head, raw: bytes) -> Ranking:
        return rank.prepare(
            raw,
            arrived_s=request.arrived_s,
            deadline_s=head.plan_s,
            announced=head.announced,
            worth=lambda rows: app.reception.scored_rows(request, rows),
        )

    async def post_rank(request: Request, receive: Receive) -> Reply:
        head = app.reception.admit(request)
        ranking = await app.with_body(request, receive, (JSON,), lambda raw: prepare(request, head, raw))
        outcome = await app.run(request, ranking.work)
        return Reply(200, await app.render(ranking.top_k, lambda: rank.reply(ranking, outcome, request.id)))

    async def get_models(request: Request, receive: Receive) -> Reply:
        return json_reply({"models": [description | describe_items(model.items)]})

    async def get_model(request: Request, receive: Receive) -> Reply:
        return json_reply(description | describe_items(model.items))

    async def get_examples(request: Request, receive: Receive) -> Reply:
        options = _options(request.query, config.max_candidates)
        count, candidates, seed = options["count"], options["candidates"], options["seed"]
        return await app.in_thread(
            lambda: json_reply(
                {
                    "examples": example_bodies(
                        model, count=count, candidates=candidates, seed=seed, max_candidates=config.max_candidates
                    )
                }
            )
        )

    async def get_page(request: Request, receive: Receive) -> Reply:
        host = request.headers.get(b"host", b"localhost").decode("latin-1")

        def page() -> bytes:
            [example] = example_bodies(
                model, count=1, candidates=_PAGE_CANDIDATES, seed=0, max_candidates=config.max_candidates
            )
            return home_page(model, example, host)

        return Reply(200, await app.in_thread(page), HTML)

    async def get_metrics(request: Request, receive: Receive) -> Reply:
        return Reply(200, await scrape(app, request), METRICS_TYPE)

    root = f"/v1/models/{model.name}"
    post = Route("POST", "rank", post_rank, "rank", Quick(app, rank, prepare, "rank"))
    one = Route("GET", "http", get_model)
    return {
        "/": Route("GET", "http", get_page),
        "/metrics": Route("GET", "http", get_metrics),
        "/v1/rank": post,
        f"{root}/rank": post,
        f"{root}/versions/{model.version}/rank": post,
        "/v1/models": Route("GET", "http", get_models),
        root: one,
        f"{root}/versions/{model.version}": one,
        f"{root}/examples": Route("GET", "http", get_examples),
    }


def _options(query: bytes, max_candidates: int) -> dict[str, int]:
    """``count``, ``candidates`` and ``seed`` of a query string.

    Raises:
        BadRequest: an option is unknown, given twice or out of its bounds, or all examples together would have too many
            ids.
    """
    candidates = min(_EXAMPLE_CANDIDATES, max_candidates)
    options = {"count": _EXAMPLE_COUNT, "candidates": candidates, "seed": 0}
    bounds = {"count": (1, MAX_EXAMPLES), "candidates": (1, max_candidates), "seed": (0, _LARGEST_SEED)}
    for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items():
        where = f"query {name}"
        if name not in options:
            raise BadRequest("unknown option", where=where, hint=did_you_mean(name, options))
        if len(values) > 1:
            raise BadRequest("the option is given more than once", where=where, got=", ".join(values), allowed="once")
        (least, most), [value] = bounds[name], values
        is_number = value.isascii() and value.isdigit() and len(value) <= len(str(most))
        if not (is_number and least <= int(value) <= most):
            raise BadRequest("must be a whole number", where=where, got=value, allowed=f"{least}..{most}")
        options[name] = int(value)
    ids = options["count"] * options["candidates"]
    if options["count"] > 1 and ids > MAX_EXAMPLE_IDS:
        allowed = f"at most {MAX_EXAMPLE_IDS} of all examples together"
        raise BadRequest("too many ids", where="query count", got=ids, allowed=allowed)
    return options

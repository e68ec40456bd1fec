"""``rankine.Ranker``: ranking over gRPC, with the content of ``POST /v1/rank`` in typed columns."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rankine.errors import BadRequest, ModelNotFound, did_you_mean
from rankine.models.schema import Feature
from rankine.serving.grpc.anywhere import anywhere
from rankine.serving.grpc.calls import Calls, Read, parse
from rankine.serving.grpc.messages import RANKER, Message, message_class
from rankine.serving.grpc.rank_columns import rows_of_column
from rankine.serving.http import Request
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.protocols.rank_body import RankBody

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["RankService", "given_columns"]

_LABEL = "rank-grpc"
_PATH = f"/{RANKER}/Rank"
_RankRequest = message_class("rankine.RankRequest")
_RankReply = message_class("rankine.RankReply")
_ID_FIELDS = {"int64": "integers", "string": "texts"}


class RankService:
    """Answers the calls of the service."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._model = app.model
        self._rank = RankProtocol(app.model, max_candidates=app.config.max_candidates)
        schema = app.model.schema
        self._request_features = {feature.name: feature for feature in schema.request_features}
        per_candidate = (*schema.row_features, *schema.catalog_features)
        self._candidate_features = {feature.name: feature for feature in per_candidate}
        self._ids_field = _ID_FIELDS[schema.item_id_dtype]

    def handlers(self, calls: Calls) -> dict[str, Any]:
        """Handlers by the name of the method."""
        return {"Rank": calls.unary(_PATH, _LABEL, anywhere(self._app, _PATH, _LABEL, self.rank))}

    async def rank(self, request: Request, read: Read) -> bytes:
        """``Rank``."""
        app = self._app
        head = app.reception.admit(request)
        raw = await read()
        begin_s = perf_counter()
        ranking = await app.decode(
            len(raw),
            lambda: self._rank.accept(
                self._body(raw),
                arrived_s=request.arrived_s,
                deadline_s=head.plan_s,
                announced=head.announced,
                begin_s=begin_s,
                worth=lambda rows: app.reception.scored_rows(request, rows),
            ),
        )
        outcome = await app.run(request, ranking.work)
        return await app.render(ranking.top_k, lambda: self._reply(self._rank.answer(ranking, outcome, request.id)))

    def _body(self, raw: bytes) -> RankBody:
        message = parse(_RankRequest, raw)
        self._check_model(message)
        candidates = message.candidates
        field = candidates.WhichOneof("ids")
        if field not in (None, self._ids_field):
            where = "candidates.ids"
            raise BadRequest("has the wrong type", where=where, got=str(field), allowed=self._ids_field)
        ids = list(getattr(candidates, self._ids_field).values)
        # Of as many rows as there are ids; how many those may be is checked before any column is read.
        self._rank.check_count(len(ids), None)
        return RankBody(
            ids,
            given_columns(message.request, self._request_features, 1, "request"),
            given_columns(candidates.features, self._candidate_features, len(ids), "candidates.features"),
            list(candidates.prior) or None,
            message.top_k or None,
            message.timings,
        )

    def _check_model(self, message: Message) -> None:
        name, version = self._model.name, self._model.version
        if message.model not in ("", name):
            hint = did_you_mean(message.model, [name])
            raise ModelNotFound("no such model is served here", where="model", got=message.model, hint=hint)
        if message.version not in ("", version):
            raise ModelNotFound("this version is not served", where="version", got=message.version, allowed=version)

    def _reply(self, answer: Mapping[str, Any]) -> bytes:
        fields = dict(answer)
        fields[self._ids_field] = {"values": fields.pop("ids")}
        if "tasks" in fields:
            fields["tasks"] = {name: {"values": scores} for name, scores in fields["tasks"].items()}
        return bytes(_RankReply(**fields).SerializeToString())


def given_columns(
    columns: Mapping[str, Message], features: Mapping[str, Feature], rows: int, where: str
) -> dict[str, Any]:
    """Values of each feature that was given: of a request the one value, else one for each of ``rows``."""
    given: dict[str, Any] = {}
    for name, column in columns.items():
        if name not in features:
            raise BadRequest("unknown field", where=f"{where}.{name}", hint=did_you_mean(name, features))
        values = rows_of_column(features[name], column, rows, f"{where}.{name}")
        given[name] = values[0] if where == "request" else values
    return given

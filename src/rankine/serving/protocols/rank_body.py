"""The body of a rank request: a decoder made from the schema, so that types are checked while JSON is parsed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from rankine._native import read_id_list
from rankine.errors import BadRequest, did_you_mean
from rankine.models.schema import Feature, RaggedFeature, Schema
from rankine.serving.inputs import INT64, TEXT, WeightedList, type_of
from rankine.serving.protocols.json_keys import refuse_duplicate_keys, value_at
from rankine.serving.protocols.rank_encode import Given

__all__ = ["BodyDecoder", "Ids", "RankBody"]

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_LIST = frozenset((list,))
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELD = re.compile(r"field `(?P<name>[^`]*)`")


Ids = list[Any] | np.ndarray


class RankBody(Struct, frozen=True):
    """What a client asks to be ranked, in whichever protocol it came.

    Attributes:
        ids: of the items, int or str as the schema says; or int64 ``(n,)``.
        request: values of request features by name, of those that were given.
        features: a value for each candidate, of row and item features by name, of those that were given.
        prior: scores from retrieval, one a candidate.
        top_k: how many are wanted; all if None.
        timings: the reply tells what took how long.
    """

    ids: Ids
    request: Given
    features: Given
    prior: Sequence[float] | None = None
    top_k: int | None = None
    timings: bool = False


class BodyDecoder:
    """Decodes ``{"request": {...}, "candidates": {...}, "top_k": k, "timings": false}``.

    Features are decoded into fields ``f0, f1, ...`` of generated classes: a schema may use any word as a name.
    """

    def __init__(self, schema: Schema) -> None:
        row_features = (*schema.row_features, *schema.catalog_features)
        self._request_names = [feature.name for feature in schema.request_features]
        self._row_names = [feature.name for feature in row_features]
        self._request_fields, self._row_fields = _by_field(self._request_names), _by_field(self._row_names)
        self._request_lists = [f.name for f in schema.request_features if isinstance(f, RaggedFeature)]
        self._row_lists = [f.name for f in row_features if isinstance(f, RaggedFeature)]
        request = _struct("Request", [(feature, type_of(feature)) for feature in schema.request_features])
        features = _struct("Features", [(feature, list[type_of(feature)]) for feature in row_features])  # type: ignore[misc]
        are_numbers = schema.item_id_dtype == "int64"
        self._decoder = _decoder(list[INT64] if are_numbers else list[TEXT], request, features)
        self._unread = _decoder(msgspec.Raw, request, features) if are_numbers else None
        self._fields = {
            "": ["request", "candidates", "top_k", "timings"],
            "request": self._request_names,
            "candidates": ["ids", "features", "prior"],
            "candidates.features": self._row_names,
        }

    def decode(self, raw: bytes) -> RankBody:
        """The body of JSON text.

        Raises:
            BadRequest: not JSON, a key is unknown, missing or given twice, or a value has the wrong type.
        """
        ids: Ids | None = None
        try:
            if self._unread is not None:  # numbers without a Python object for each
                body = self._unread.decode(raw)
                ids = read_id_list(bytes(body.candidates.ids))
            if ids is None:
                body = self._decoder.decode(raw)
                ids = body.candidates.ids
        except msgspec.ValidationError as error:
            raise _broken(raw) or self._as_bad_request(str(error), raw) from None
        except _NO_JSON as error:
            raise _no_json(error) from None
        chosen = body.candidates
        request = _given(body.request, self._request_fields)
        features = _given(chosen.features, self._row_fields)
        keys = self._keys(body, request, features)
        if raw.count(b":") != keys:  # a key came twice, or a string holds a colon; that takes a look
            refuse_duplicate_keys(raw, keys)
        return RankBody(
            ids, request, features,
            None if chosen.prior is UNSET else chosen.prior,
            None if body.top_k is UNSET else int(body.top_k),
            body.timings is True,
        )  # fmt: skip

    def _keys(self, body: Any, request: Given, features: Given) -> int:
        """How many keys a body has that gives none twice."""
        chosen = body.candidates
        keys = len(request) + len(features) + 2  # "candidates" and its "ids" are always there
        keys += (body.request is not UNSET) + (body.top_k is not UNSET) + (body.timings is not UNSET)
        keys += (chosen.features is not UNSET) + (chosen.prior is not UNSET)
        for name in self._request_lists:
            if name in request:
                keys += _weighted_keys((request[name],))
        for name in self._row_lists:
            keys += _weighted_keys(features.get(name, ()))
        return keys

    def _as_bad_request(self, text: str, raw: bytes) -> BadRequest:
        """msgspec's finding as our error: same facts, with the field's full path and a suggestion."""
        found = _PATH.match(text)
        what, path = (found["what"], found["path"] or "") if found else (text, "")
        field = _FIELD.search(what)
        if field is None:
            if not what.startswith("Expected "):
                return BadRequest(what[:1].lower() + what[1:].replace("`", "'"), where=path or "body")
            expected, _, got = what.partition(", got ")
            return BadRequest(
                "has the wrong type or value", where=path or "body", got=_got(got.strip("`"), raw, path),
                allowed=_in_words(expected.removeprefix("Expected ").replace("`", "")),
            )  # fmt: skip
        where = f"{path}.{field['name']}" if path else field["name"]
        if "unknown" in what:
            return BadRequest(
                "unknown field",
                where=where,
                hint=did_you_mean(field["name"], self._fields.get(path, WeightedList.__struct_fields__)),
            )
        return BadRequest("required field is missing", where=where)


def _decoder(ids: Any, request: type[Struct], features: type[Struct]) -> msgspec.json.Decoder[Any]:
    """Of bodies whose ids are of this type."""
    candidates = msgspec.defstruct(
        "Candidates",
        [("ids", ids), ("features", features | UnsetType, UNSET), ("prior", list[float] | UnsetType, UNSET)],
        forbid_unknown_fields=True,
    )
    body = msgspec.defstruct(
        "Body",
        [
            ("candidates", candidates),
            ("request", request | UnsetType, UNSET),
            ("top_k", Annotated[int, Meta(ge=1)] | UnsetType, UNSET),
            ("timings", bool | UnsetType, UNSET),
        ],
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(body)


def _got(kind: str, raw: bytes, path: str) -> str | None:
    """What lies at ``path`` instead; to msgspec a whole number of more than 64 bits is a float."""
    if kind not in ("", "float"):
        return kind
    value = value_at(raw, path)
    return "int" if kind and value is not None and value.lstrip("-").isdigit() else kind or value


def _no_json(error: Exception) -> BadRequest:
    return BadRequest(f"not valid JSON: {error}", where="body")


def _broken(raw: bytes) -> BadRequest | None:
    """The error of a text that is no JSON further on: a decoder of a type stops at the first surprise."""
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except _NO_JSON as error:
        return _no_json(error)
    return None


def _in_words(expected: str) -> str:
    """A type of JSON as clients call it."""
    return "a list, or {values, weights}" if expected in ("object | array", "array | object") else expected


def _struct(name: str, typed: Sequence[tuple[Feature, Any]]) -> Any:
    """A class with one optional field a feature; what is required is checked later, with a better message."""
    fields = [(f"f{at}", kind | UnsetType, UNSET) for at, (_, kind) in enumerate(typed)]
    rename = {f"f{at}": feature.name for at, (feature, _) in enumerate(typed)}
    return msgspec.defstruct(name, fields, rename=rename, forbid_unknown_fields=True)


def _by_field(names: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Pairs of field and feature."""
    return [(f"f{at}", name) for at, name in enumerate(names)]


def _given(struct: Any, fields: Sequence[tuple[str, str]]) -> Given:
    if struct is UNSET:
        return {}
    return {name: value for field, name in fields if (value := getattr(struct, field)) is not UNSET}


def _weighted_keys(values: Sequence[object]) -> int:
    """Keys of the objects among ``values``, which are lists with or without weights."""
    if _LIST.issuperset(map(type, values)):
        return 0
    return len(WeightedList.__struct_fields__) * sum(isinstance(value, WeightedList) for value in values)

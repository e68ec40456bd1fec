"""Rank bodies to work and back, what they may say, and the limits of bodies."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from e2e.small_served import ITEMS, SCHEMA, rank_body
from rankine.errors import BadRequest, DeadlineExceeded, PayloadTooLarge, RankineError
from rankine.models.columns import Ragged
from rankine.serving.bodies import compress, decompress
from rankine.serving.examples import example_bodies
from rankine.serving.http import Request, UnsupportedMedia, candidates_header, deadline_of
from rankine.serving.model import ServedModel
from rankine.serving.protocols.rank import Ranking, RankProtocol
from rankine.serving.work import Outcome, join
from unit.numpy_served import as_they_are, numpy_model

Body = dict[str, Any]
Change = Callable[[Body], object]
NEVER = float("inf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def protocol(model: ServedModel) -> RankProtocol:
    return RankProtocol(model, max_candidates=50)


def prepare(protocol: RankProtocol, body: Body | bytes, announced: int | None = None) -> Ranking:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocol.prepare(raw, arrived_s=0.0, deadline_s=NEVER, announced=announced)


def test_prepare_encodes_as_the_transforms_do_when_body_is_good(model: ServedModel, protocol: RankProtocol) -> None:
    work = prepare(protocol, rank_body(4)).work
    fitted = model.transforms
    raw = {
        "user": np.array([7]),
        "country": np.array(["de"]),
        "city": np.array(["Köln"]),
        "recent": Ragged.from_lists([[1003, 1005]]),
        "age": np.array([[33.5, 1]], np.float32),
    }
    for name, expected in fitted.encode(SCHEMA.request_features, raw).items():
        got = work.request[name]
        if isinstance(expected, Ragged):
            assert isinstance(got, Ragged)
            assert np.array_equal(got.values, expected.values)
        else:
            assert np.array_equal(got, expected)
    assert work.item_index.tolist() == [0, 1, 2, 3]
    assert work.items is model.items
    assert np.asarray(work.pair["slot"]).tolist() == [0, 1, 2, 3]
    assert work.requests == 1


def test_prepare_uses_the_default_when_a_feature_is_left_out(protocol: RankProtocol) -> None:
    body = copy.deepcopy(rank_body(3))
    del body["request"]["country"]
    given = copy.deepcopy(rank_body(3))
    given["request"]["country"] = "nl"
    left_out, said = prepare(protocol, body).work, prepare(protocol, given).work
    assert np.array_equal(np.asarray(left_out.request["country"]), np.asarray(said.request["country"]))
    assert np.allclose(np.asarray(left_out.pair["clicks"]), np.asarray(left_out.pair["clicks"])[0])


def test_prepare_takes_inline_items_when_ids_are_not_in_the_catalog(protocol: RankProtocol) -> None:
    body: Body = rank_body(2)
    body["candidates"]["ids"] = [5, 1007]
    body["candidates"]["features"] |= {"tags": [["tag-1", "tag-2"], []], "price": [1.5, 2]}
    work = prepare(protocol, body).work
    assert isinstance(work.items, dict)
    assert work.item_index.tolist() == [0, 1]
    item = np.asarray(work.items["item"])
    assert item[0] == 0  # out of vocabulary
    assert item[1] > 0  # the id itself is the value of the feature of its name


def test_prepare_scores_the_unknown_row_when_configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = numpy_model(tmp_path_factory.mktemp("unknown"), with_unknown_row=True)
    body: Body = rank_body(2)
    body["candidates"]["ids"] = [1001, 5]
    work = prepare(RankProtocol(model, max_candidates=50), body).work
    batch = join([work], as_they_are)
    assert batch.item_index.tolist() == [0, 1]
    assert np.asarray(batch.item["item"]).tolist() == [2, 0]
    tags = batch.item["tags"]
    assert isinstance(tags, Ragged)
    assert np.diff(tags.offsets)[1] == 0


def test_reply_is_sorted_and_cut_when_top_k_is_given(protocol: RankProtocol) -> None:
    ranking = prepare(protocol, rank_body(4, top_k=2, timings=True))
    outcome = Outcome(
        np.array([[0.0], [3.0], [-1.0], [30.0]], np.float32), 0.001, 0.002, 4, 1, "alone", "baseline", "numpy"
    )
    reply = json.loads(protocol.reply(ranking, outcome, "r-1"))
    assert reply["ids"] == [1003, 1001]
    assert reply["scores"] == pytest.approx([1.0, 1 / (1 + np.exp(-3))])
    assert reply["timings"]["run_ms"] == pytest.approx(2)
    assert {"request_id", "artifact", "generation", "variant", "engine"} <= reply.keys()


def test_reply_has_all_candidates_when_top_k_is_larger(protocol: RankProtocol) -> None:
    ranking = prepare(protocol, rank_body(3, top_k=99))
    reply = json.loads(
        protocol.reply(ranking, Outcome(np.zeros((3, 1), np.float32), 0, 0, 3, 1, "", "baseline", "numpy"), "r")
    )
    assert reply["ids"] == [1000, 1001, 1002]
    assert "timings" not in reply


def test_prepare_accepts_a_colon_when_it_is_inside_a_string(protocol: RankProtocol) -> None:
    body: Body = rank_body(2)
    body["request"] = body["request"] | {"city": "a:b::c"}
    assert prepare(protocol, body).work.rows == 2


def _set(*path: str | int, to: object) -> Change:
    def change(body: Body) -> None:
        at: Any = body
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = to

    return change


def _drop(*path: str) -> Change:
    def change(body: Body) -> None:
        at: Any = body
        for part in path[:-1]:
            at = at[part]
        del at[path[-1]]

    return change


WRONG: dict[str, tuple[Change, str]] = {
    "unknown request feature": (_set("request", "usr", to=1), r"request\.usr: unknown field\. Did you mean 'user'\?"),
    "unknown candidate feature": (_set("candidates", "features", "slto", to=[1]), r"features\.slto.*'slot'"),
    "request feature among candidates": (_set("candidates", "features", "user", to=[1]), r"features\.user: unknown"),
    "unknown key": (_set("topk", to=3), r"topk: unknown field\. Did you mean 'top_k'"),
    "missing request feature": (_drop("request", "user"), r"request\.user: required feature is missing"),
    "missing request": (_drop("request"), r"request\.user: required feature is missing"),
    "missing pair feature": (_drop("candidates", "features", "slot"), r"candidates\.features\.slot: required"),
    "missing ids": (_drop("candidates", "ids"), r"candidates\.ids: required field is missing"),
    "missing candidates": (_drop("candidates"), "candidates: required field is missing"),
    "string for int": (_set("request", "user", to="7"), r"request\.user: .*got str; allowed: int"),
    "float for int": (_set("request", "user", to=7.5), r"request\.user: .*got float"),
    "bool for int": (_set("request", "user", to=True), r"request\.user: .*got bool"),
    "null": (_set("request", "user", to=None), r"request\.user: .*got null"),
    "int for string": (_set("request", "country", to=3), r"request\.country: .*got int; allowed: str"),
    "int64 overflow": (_set("request", "user", to=2**63), r"request\.user: .*int <= 9223372036854775807"),
    "far overflow": (_set("candidates", "ids", 1, to=10**40), r"candidates\.ids\[1\]"),
    "vector too short": (_set("request", "age", to=[1]), r"request\.age: .*length >= 2"),
    "scalar for vector": (_set("request", "age", to=1), r"request\.age: .*got int; allowed: array"),
    "float32 overflow": (_set("request", "age", to=[1e39, 0]), r"request\.age: must be finite"),
    "list too long": (_set("request", "recent", to=[1] * 21), r"request\.recent: .*length <= 20"),
    "string too long": (_set("request", "city", to="x" * 1025), r"request\.city: .*length <= 1024"),
    "NUL in a string": (_set("request", "city", to="a\0"), r"request\.city: .*NUL"),
    "id out of range": (
        _set("candidates", "features", "slot", to=[0, 1, 10]),
        r"candidates\.features\.slot: id out of",
    ),
    "too few values": (
        _set("candidates", "features", "slot", to=[0, 1]),
        r"features\.slot: must have one value a cand",
    ),
    "ragged vector": (_set("candidates", "features", "match", to=[[1, 2], [1], [1, 2]]), r"features\.match\[1\]"),
    "no candidates": (_set("candidates", "ids", to=[]), r"candidates\.ids: there are no candidates"),
    "unknown item": (_set("candidates", "ids", to=[1000, 7, 1001]), r"candidates\.ids\[1\]: unknown item.*got 7"),
    "string id": (_set("candidates", "ids", to=["1000", 1, 2]), r"candidates\.ids\[0\]"),
    "short prior": (_set("candidates", "prior", to=[0.5]), r"candidates\.prior: must have one value"),
    "top_k zero": (_set("top_k", to=0), "top_k: .*int >= 1"),
    "timings as text": (_set("timings", to="yes"), "timings: .*allowed: bool"),
    "part of an inline item": (_set("candidates", "features", "price", to=[1, 2, 3]), r"features\.tags: required"),
    "price that log1p refuses": (
        lambda body: body["candidates"]["features"].update(price=[1, -3, 3], tags=[[], [], []]),
        r"candidates\.features\.price: must be above -1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_prepare_names_the_field_when_it_is_wrong(protocol: RankProtocol, name: str) -> None:
    change, message = WRONG[name]
    body: Body = copy.deepcopy(rank_body(3))
    change(body)
    with pytest.raises(BadRequest, match=message):
        prepare(protocol, body)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{} x",
        b'{"request": {"user": NaN}}',
        b'{"request": {"age": [1e999, 0]}}',
        b'{"request": {"city": "\xff"}}',
        b'{"request": {"city": "\\ud800"}}',
        b"[" * 9999,
        b"\xef\xbb\xbf{}",
        b"\x00",
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_prepare_refuses_a_body_when_it_is_not_such_json(protocol: RankProtocol, raw: bytes) -> None:
    with pytest.raises(BadRequest):
        prepare(protocol, raw)


@pytest.mark.parametrize("where", ["user", "request", "ids", "top_k"])
def test_prepare_names_the_key_when_it_is_given_twice(protocol: RankProtocol, where: str) -> None:
    raw = json.dumps(rank_body(2, top_k=1))
    twice = {
        "user": raw.replace('"user": 7', '"user": 7, "user": 8'),
        "request": raw[:-1] + ', "request": {"user": 1, "city": "x", "recent": [], "age": [1, 2]}}',
        "ids": raw.replace('"ids": [1000, 1001]', '"ids": [1], "ids": [1000, 1001]'),
        "top_k": raw[:-1] + ', "top_k": 1}',
    }[where]
    assert twice != raw
    with pytest.raises(BadRequest, match=f"{where}: the key is given twice"):
        prepare(protocol, twice.encode())


def test_prepare_refuses_when_there_are_too_many_candidates(protocol: RankProtocol) -> None:
    with pytest.raises(PayloadTooLarge, match="at most 50"):
        prepare(protocol, rank_body(51))


def test_prepare_refuses_when_the_header_announced_another_number(protocol: RankProtocol) -> None:
    with pytest.raises(BadRequest, match="another length than announced"):
        prepare(protocol, rank_body(3), announced=4)


@pytest.mark.parametrize("raw", [b'{"a":', b'{"a": 1', b'{"request": 5, "x": tru}', b'{"request": []} {}'])
def test_prepare_says_that_it_is_no_json_when_a_wrong_field_comes_first(protocol: RankProtocol, raw: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        prepare(protocol, raw)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64])
def test_prepare_names_the_id_when_it_does_not_fit_64_bits(protocol: RankProtocol, number: int) -> None:
    body = rank_body(3)
    body["candidates"]["ids"][1] = number
    with pytest.raises(BadRequest) as refused:
        prepare(protocol, body)
    assert (refused.value.where, refused.value.got) == ("candidates.ids[1]", str(number))


@pytest.mark.parametrize(("count", "candidates"), [(3, 5), (1, 50), (2, 9999)])
def test_examples_are_valid_when_asked_for_any_size(
    model: ServedModel, protocol: RankProtocol, count: int, candidates: int
) -> None:
    bodies = example_bodies(model, count=count, candidates=candidates, seed=1, max_candidates=50)
    assert len(bodies) == count
    for body in bodies:
        assert prepare(protocol, body).work.rows == min(candidates, 50)
    assert bodies == example_bodies(model, count=count, candidates=candidates, seed=1, max_candidates=50)


def test_examples_repeat_items_when_the_catalog_is_smaller(model: ServedModel) -> None:
    [body] = example_bodies(model, count=1, candidates=ITEMS + 100, seed=1, max_candidates=10_000)
    assert len(body["candidates"]["ids"]) == ITEMS + 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompress_gives_the_body_back_when_it_was_compressed(encoding: str) -> None:
    body = b"a body, a body, a body" * 1000
    packed, used = compress(body, encoding.encode())
    assert used == encoding.encode()
    assert decompress(packed, encoding, len(body)) == body


def test_decompress_reads_all_when_deflate_is_raw_or_gzip_has_members() -> None:
    packer = zlib.compressobj(wbits=-15)
    assert decompress(packer.compress(b"raw") + packer.flush(), "deflate", 10) == b"raw"
    assert decompress(gzip.compress(b"one") + gzip.compress(b"two"), "gzip", 10) == b"onetwo"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_decompress_stops_at_the_limit_when_the_body_is_a_bomb(encoding: str) -> None:
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(50_000_000))
    with pytest.raises(PayloadTooLarge, match="once decompressed"):
        decompress(bomb, encoding, 1_000_000)


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"text" * 99)[:-9], gzip.compress(b"x") + b"tail", gzip.compress(b"") * 17]
)
def test_decompress_refuses_when_the_body_is_not_whole_gzip(body: bytes) -> None:
    with pytest.raises(BadRequest, match="gzip"):
        decompress(body, "gzip", 10_000)


def _request(**headers: str) -> Request:
    raw = {f"x-rankine-{name.replace('_', '-')}".encode(): value.encode() for name, value in headers.items()}
    return Request("r", "POST", "/v1/rank", b"", raw, 100.0)


def test_deadline_counts_from_the_arrival_when_given() -> None:
    assert deadline_of(_request(deadline_ms="250"), None) == pytest.approx(100.25)
    assert deadline_of(_request(), 500) == pytest.approx(100.5)
    assert deadline_of(_request(), None) == NEVER


@pytest.mark.parametrize(
    ("value", "kind"),
    [("0", DeadlineExceeded), ("-3", DeadlineExceeded), ("nan", BadRequest), ("inf", BadRequest), ("soon", BadRequest)],
)
def test_deadline_is_refused_when_passed_or_not_a_number(value: str, kind: type[RankineError]) -> None:
    with pytest.raises(kind, match="x-rankine-deadline-ms"):
        deadline_of(_request(deadline_ms=value), None)


@pytest.mark.parametrize(
    ("value", "kind"), [("0", BadRequest), ("-1", BadRequest), ("x", BadRequest), ("11", PayloadTooLarge)]
)
def test_candidates_header_is_refused_when_wrong_or_too_large(value: str, kind: type[RankineError]) -> None:
    with pytest.raises(kind, match="x-rankine-candidates"):
        candidates_header(_request(candidates=value), 10)


def test_http_errors_have_their_status_when_raised() -> None:
    assert UnsupportedMedia("x").http_status == 415

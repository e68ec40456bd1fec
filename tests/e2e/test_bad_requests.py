"""More than 200 different bad requests at one running server: each is refused, and the server goes on."""

from __future__ import annotations

import copy
import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.conftest import MAX_BODY_BYTES
from e2e.history_served import LONGEST_SENT, history_body
from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import SCHEMA, rank_body
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
RANK = "/v1/rank"
INFER = "/v2/models/small.rank/infer"
Body = dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A bad request; ``names`` must occur in the reply's error."""

    label: str
    path: str
    raw: bytes
    names: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def _rank(label: str, body: object, names: str = "", **headers: str) -> Bad:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Bad(label, RANK, raw, names, {name.replace("_", "-"): value for name, value in headers.items()})


def _changed(*path: str | int, to: object) -> Body:
    body = copy.deepcopy(rank_body(3))
    at: Any = body
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = to
    return body


_WRONG_VALUES: tuple[object, ...] = (
    None,
    True,
    {},
    {"a": 1},
    [[]],
    [None],
    "x" * 2000,
    -(2**64),
    1e300,
    [1e300, 0],
    [{}],
)


def _wrong_values() -> Iterator[Bad]:
    """Every feature with every kind of value that cannot be right for it."""
    for feature in SCHEMA.request_features:
        for at, value in enumerate(_WRONG_VALUES):
            yield _rank(f"request {feature.name} {at}", _changed("request", feature.name, to=value), feature.name)
    for feature in (*SCHEMA.row_features, *SCHEMA.catalog_features):
        path = ("candidates", "features", feature.name)
        for at, value in enumerate((None, 1, "text", {}, [1], [None] * 3, [True] * 3, [{}] * 3, [[["deep"]]] * 3)):
            yield _rank(f"row {feature.name} {at}", _changed(*path, to=value), feature.name)
    for at, value in enumerate(
        (None, 5, "1000", {}, [], [None], ["1000"], [1.5], [True], [[1000]], [2**63], [7], [-1])
    ):
        yield _rank(f"ids {at}", _changed("candidates", "ids", to=value), "ids")
    for at, value in enumerate((0, -1, 1.5, "1", None, [], True)):
        yield _rank(f"top_k {at}", _changed("top_k", to=value), "top_k")
    for at, value in enumerate((None, 1, [1], ["x"] * 3, [None] * 3, [1, 2])):
        yield _rank(f"prior {at}", _changed("candidates", "prior", to=value), "prior")
    for at, value in enumerate((None, 3, "x", [], [{}])):
        yield _rank(f"request {at}", _changed("request", to=value), "request")
        yield _rank(f"candidates {at}", _changed("candidates", to=value), "candidates")


def _wrong_keys() -> Iterator[Bad]:
    for section in ((), ("request",), ("candidates",), ("candidates", "features")):
        for name in ("usr", "", "User", "a" * 500, "ключ", "ids "):
            yield _rank(f"unknown {section} {name[:9]}", _changed(*section, name, to=1), name[:100] or "unknown field")
    for name in ("user", "city", "recent", "age"):
        body = rank_body(3)
        body["request"] = {key: value for key, value in body["request"].items() if key != name}
        yield _rank(f"missing {name}", body, f"request.{name}")
    text = json.dumps(rank_body(3))
    for name in ("user", "ids", "request", "slot"):
        twice = text.replace(f'"{name}":', f'"{name}": null, "{name}":')
        yield _rank(f"twice {name}", twice.encode(), name)
        same = text.replace('"user": 7', '"user": 7, "user": 7') if name == "user" else None
        if same:
            yield _rank("twice the same", same.encode(), "user")


def _not_json() -> Iterator[Bad]:
    raw = json.dumps(rank_body(3)).encode()
    for at in range(0, len(raw) - 1, max(1, len(raw) // 40)):
        yield _rank(f"cut at {at}", raw[:at])
    for at in range(1, len(raw), max(1, len(raw) // 20)):
        yield _rank(f"byte {at} is not UTF-8", raw[:at] + b"\xff" + raw[at:])
    for literal in (
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"0x10",
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"'7'",
        b"nul",
        b"\x00",
    ):
        yield _rank(f"number {literal!r}", raw.replace(b"33.5", literal))
    for depth in (100, 10_000, 200_000):
        yield _rank(f"{depth} arrays", b"[" * depth)
        yield _rank(f"{depth} objects", b'{"request":' * depth)
        yield _rank(f"{depth} arrays in a feature", raw.replace(b"33.5", b"[" * depth + b"]" * depth))
    yield _rank("UTF-16", raw.decode().encode("utf-16"))
    yield _rank("two documents", raw + raw)
    yield _rank("comment", b"// hello\n" + raw)


def _limits() -> Iterator[Bad]:
    raw = json.dumps(rank_body(3)).encode()
    yield _rank("too many candidates", rank_body(2001), "ids")
    yield _rank("too large a body", b" " * (MAX_BODY_BYTES + 1) + raw, "too large")
    yield _rank("far too large a body", b" " * (3 * MAX_BODY_BYTES), "too large")
    bomb = b" " * (4 * MAX_BODY_BYTES) + raw
    yield _rank("gzip bomb", gzip.compress(bomb), "once decompressed", content_encoding="gzip")
    yield _rank("deflate bomb", zlib.compress(bomb), "once decompressed", content_encoding="deflate")
    yield _rank("not gzip", raw, "gzip", content_encoding="gzip")
    yield _rank("gzip cut off", gzip.compress(raw)[:-5], "cut off", content_encoding="gzip")
    yield _rank("unknown encoding", raw, "content-encoding", content_encoding="br")
    yield _rank("unknown media", raw, "content-type", content_type="text/xml")
    for value in ("0", "-5", "nan", "inf", "later", "", "1_0"):
        yield _rank(f"deadline {value}", raw, "x-rankine-deadline-ms", x_rankine_deadline_ms=value)
    yield _rank("deadline passed while queued", raw, "deadline", x_rankine_deadline_ms="0.000001")
    for value in ("0", "-1", "x", "2001", "4", "9" * 30):
        yield _rank(f"announced {value}", raw, "candidates", x_rankine_candidates=value)


def _tensors() -> Iterator[Bad]:
    good = {"name": "ids", "shape": [2], "datatype": "INT64", "data": [1000, 1001]}
    changes: list[dict[str, object]] = [
        {"shape": [3]}, {"shape": [-1]}, {"shape": "2"}, {"shape": [2**40]}, {"shape": [1] * 9}, {"datatype": "INT65"},
        {"datatype": "FP32"}, {"data": ["a", "b"]}, {"data": None}, {"data": [1000, [1001]]}, {"data": [2**63, 1]},
        {"name": 5},
        {"name": "idz"}, {"extra": 1}, {"data": [1, 2]}, {"parameters": {"binary_data_size": 16}}, {"parameters": 3},
    ]  # fmt: skip
    for at, change in enumerate(changes):
        yield Bad(f"tensor {at}", INFER, json.dumps({"inputs": [good | change]}).encode())
    for at, body in enumerate(({}, [], {"inputs": {}}, {"inputs": []}, {"inputs": [good, good]}, {"inputs": [good]})):
        yield Bad(f"infer {at}", INFER, json.dumps(body).encode())
    raw = json.dumps({"inputs": [good]}).encode()
    for value in ("-1", "x", "99999", "0", "5"):
        yield Bad(f"header length {value}", INFER, raw, headers={"inference-header-content-length": value})
    yield Bad("deep", INFER, b'{"inputs": [{"name": "ids", "shape": [1], "datatype": "INT64", "data": ' + b"[" * 90_000)


def _history_lists() -> Iterator[Bad]:
    """Lists, with and without weights, that cannot be right for the model of histories."""
    values: list[object] = [
        None, 1, "art", {}, [[]], [None], [1.5], [True], [{}], {"values": []}, {"weights": []}, {"values": [], "w": []},
        {"values": [101], "weights": []}, {"values": [101], "weights": [1, 2]}, {"values": [101], "weights": [None]},
        {"values": [101], "weights": ["1"]}, {"values": [101], "weights": [1e39]}, {"values": 101, "weights": 1},
        {"values": [101], "weights": [[1]]}, {"values": [[101]], "weights": [1]}, {"values": None, "weights": [1]},
        {"values": {"values": [101], "weights": [1]}, "weights": [1]}, [{"values": [101], "weights": [1]}],
        [101] * (LONGEST_SENT + 1), {"values": [101] * (LONGEST_SENT + 1), "weights": [1] * (LONGEST_SENT + 1)},
    ]  # fmt: skip
    for at, value in enumerate(values):
        for name in ("history", "interests"):
            body: Any = history_body(3)
            body["request"][name] = value
            yield _rank(f"request {name} {at}", body, name)
        for name in ("context", "tags"):
            body = history_body(3)
            body["candidates"]["features"][name] = [[], value, []]
            yield _rank(f"row {name} {at}", body, name)
    body = history_body(3)
    body["candidates"]["features"]["tags"] = [[], {"values": ["tag-1"], "weights": [1]}, []]
    yield _rank("weights for max", body, "pooled by max")
    body = history_body(3)
    del body["request"]["history"]
    yield _rank("missing history", body, "request.history")
    text = json.dumps(history_body(3))
    for old in ('"values": ["art"', '"weights": [2,', '"weights": [0.5,'):
        yield _rank(f"twice {old}", text.replace(old, f"{old.split(':')[0]}: [], {old}").encode(), "given twice")
    yield from _history_tensors()


def _history_tensors() -> Iterator[Bad]:
    infer = "/v2/models/history.rank/infer"
    good: Body = {"name": "history.values", "shape": [2], "datatype": "INT64", "data": [101, 102]}
    offsets: Body = {"name": "history.offsets", "shape": [2], "datatype": "INT32", "data": [0, 2]}
    weights: Body = {"name": "history.weights", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    ids: Body = {"name": "ids", "shape": [1], "datatype": "INT64", "data": [100]}
    user: Body = {"name": "user", "shape": [1], "datatype": "INT64", "data": [7]}
    many = LONGEST_SENT + 1
    lists: list[list[Body]] = [
        [good], [offsets], [weights], [good, weights], [good, offsets | {"data": [1, 2]}],
        [good, offsets | {"data": [0, 1]}], [good, offsets | {"data": [2, 0]}], [good, offsets | {"data": [0, -1]}],
        [good, offsets | {"shape": [3], "data": [0, 1, 2]}], [good | {"datatype": "FP32"}, offsets],
        [good, offsets, weights | {"data": ["1", "2"]}], [good, offsets, weights | {"data": [1e39, 1]}],
        [good, offsets, weights | {"shape": [1], "data": [1]}],
        [good | {"shape": [many], "data": [101] * many}, offsets | {"data": [0, many]}],
        [good | {"shape": [2**31 - 1]}, offsets],
    ]  # fmt: skip
    for at, tensors in enumerate(lists):
        yield Bad(f"history tensors {at}", infer, json.dumps({"inputs": [ids, user, *tensors]}).encode(), "history.")


def bad_requests() -> list[Bad]:
    return [*_wrong_values(), *_wrong_keys(), *_not_json(), *_limits(), *_tensors()]


def test_there_are_at_least_200_bad_requests_when_counted_by_content() -> None:
    assert len({(bad.path, bad.raw, tuple(bad.headers.items())) for bad in bad_requests()}) >= 200


def test_every_bad_request_is_refused_and_the_server_goes_on_when_all_are_sent(server: ServerProcess) -> None:
    assert _answered_wrongly(server, bad_requests()) == []
    assert server.ask("POST", RANK, rank_body(5)).status == 200
    assert server.process.poll() is None
    assert not [line for line in server.log if '"traceback"' in line]


def test_every_bad_list_is_refused_and_the_server_goes_on_when_all_are_sent(history_server: ServerProcess) -> None:
    assert _answered_wrongly(history_server, list(_history_lists())) == []
    assert history_server.ask("POST", RANK, history_body(5)).status == 200
    assert not [line for line in history_server.log if '"traceback"' in line]


def _answered_wrongly(server: ServerProcess, bad_ones: list[Bad]) -> list[str]:
    """What was not refused with an error that names what is wrong."""
    wrong: list[str] = []
    for bad in bad_ones:
        answer = server.ask("POST", bad.path, bad.raw, bad.headers)
        if not (400 <= answer.status <= 499 or answer.status == 504):
            wrong.append(f"{bad.label}: status {answer.status}, {answer.body[:200]!r}")
            continue
        error = answer.json["error"]
        if bad.path == RANK and not {"code", "message"} <= error.keys():
            wrong.append(f"{bad.label}: {error}")
        if bad.names not in json.dumps(error, ensure_ascii=False):
            wrong.append(f"{bad.label}: does not name '{bad.names}': {error}")
    return wrong


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/rank HTTP/1.1\r\nhost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\n{}",
        b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_server_goes_on_when_http_itself_is_wrong(server: ServerProcess, raw: bytes) -> None:
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(raw)
    reply = connection.sock.recv(65_536)
    connection.close()
    assert reply.startswith(b"HTTP/1.1 4")
    assert server.ask("POST", RANK, rank_body(5)).status == 200


def test_log_tells_who_was_refused_and_why_when_http_itself_is_wrong(config: ServeConfig) -> None:
    server = start_server(config)
    clients = []
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
            clients.append("{}:{}".format(*client.getsockname()))
    assert server.stop() == 0
    lines = [line for line in map(json.loads, server.log) if line["message"] == "a connection is refused"]
    assert 1 <= len(lines) < 50  # no more than one a second
    assert {line["client"] for line in lines} <= set(clients)
    assert all(line["why"].startswith("header content-length: ") for line in lines)
    assert not [line for line in server.log if "uvicorn" in line]


def test_server_goes_on_when_clients_leave_before_their_answer(server: ServerProcess) -> None:
    raw = json.dumps(rank_body(500)).encode()
    head = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
        raw
    )
    for sent in (head, head + raw[:100], head + raw):
        connection = server.connect()
        connection.connect()
        connection.sock.sendall(sent)
        connection.close()
    assert server.ask("POST", RANK, rank_body(5)).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"x: " + b"a" * 70_000,
        b"".join(b"x-%d: aaaaaaaaaaaaaaaa\r\n" % at for at in range(3000)),
        b"x: 1\r\n\r\n",
    ],
    ids=["one long header", "many headers", "a trailer without end"],
)
def test_server_answers_431_when_a_head_is_too_large(server: ServerProcess, head: bytes) -> None:
    start = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\n"
    if head.endswith(b"\r\n\r\n"):
        raw = start + b"transfer-encoding: chunked\r\n" + head + b"2\r\n{}\r\n0\r\ny: " + b"a" * 600_000
    else:
        raw = start + head + b"\r\n\r\n"
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(raw)
    reply = connection.sock.recv(65_536)
    connection.close()
    assert reply.startswith(b"HTTP/1.1 431")
    assert server.ask("POST", RANK, rank_body(5)).status == 200

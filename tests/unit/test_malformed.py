"""Bytes that are no request, or none that may be answered: what their clients are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rankine.serving.model import ServedModel
from unit.numpy_served import numpy_model
from unit.served_app import Served, rank_request, received, run_served
from waiting import until

_POST = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n"
_LENGTH, _CODING, _HOST, _LINE = "header content-length", "header transfer-encoding", "header host", "request line"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return numpy_model(tmp_path_factory.mktemp("model"))


async def answered(served: Served, sent: bytes) -> list[tuple[int, Any]]:
    """Status and error, or body, of every answer until the server closes."""
    with served.connect() as client:
        client.sendall(sent)
        whole = await received(client)
    found = []
    while whole:
        head, _, rest = whole.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        told = json.loads(rest[:size])
        found.append((int(head.split()[1]), told.get("error", told)))
        whole = rest[size:]
    return found


@pytest.mark.parametrize(
    ("sent", "status", "where", "words"),
    [
        (_POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", 400, _LENGTH, "twice"),
        (_POST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, f"{_LENGTH}, {_CODING}", "not both"),
        (_CHUNKED + b"content-length: 1\r\n\r\n", 400, f"{_LENGTH}, {_CODING}", "not both"),
        (_POST + b"content-length: nine\r\n\r\n", 400, _LENGTH, "no length"),
        (_POST + b"content-length: -1\r\n\r\n", 400, _LENGTH, "no length"),
        (_POST + b"content-length: 99999999999999999999\r\n\r\n", 400, _LENGTH, "no length"),
        (_POST + b"transfer-encoding: chunked, gzip\r\n\r\n", 400, _CODING, "unknown coding"),
        (_POST + b"transfer-encoding: gzip\r\n\r\n", 400, _CODING, "unknown coding"),
        (_CHUNKED + b"\r\nzz\r\n", 400, "body", "begin with its size"),
        (_CHUNKED + b"\r\nfffffffffffffffff\r\n", 400, "body", "begin with its size"),
        (_CHUNKED + b"\r\n1\r\n{}\r\n", 400, "body", "end where its size says"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, None, "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04", 505, _LINE, "version"),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505, _LINE, "version"),
        (b"GET / HTTP/3.0\r\nhost: x\r\n\r\n", 505, _LINE, "version"),
        (b"GET / HTTP/0.9\r\nhost: x\r\n\r\n", 505, _LINE, "version"),
        (rank_request().replace(b"HTTP/1.1", b"HTTP/2.0"), 505, _LINE, "version"),
        (rank_request().replace(b"host: x\r\n", b""), 400, _HOST, "names its host"),
        (rank_request().replace(b"host: x\r\n", b"host: x\r\nHost: x\r\n"), 400, _HOST, "names its host"),
        (b"GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n", 400, _HOST, "names its host"),
        (b"nonsense\r\n\r\n", 400, None, "no HTTP/1.1 request"),
        (b"GET http://a:70000/ HTTP/1.1\r\nhost: x\r\n\r\n", 400, None, "no HTTP/1.1 request"),
        (_POST + b"a b: c\r\n\r\n", 400, None, "no HTTP/1.1 request"),
    ],
)  # fmt: skip
def test_client_is_told_what_is_wrong_when_what_it_sends_is_no_request(
    opened: ServedModel, sent: bytes, status: int, where: str | None, words: str
) -> None:
    async def scenario(served: Served) -> None:
        [(found, error)] = await answered(served, sent)
        assert (found, error.get("where")) == (status, where)
        assert words in error["message"]
        assert served.counted(200) == 0

    run_served(opened, scenario)


def test_request_is_answered_without_a_host_when_it_is_of_http_1_0(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        [(status, _)] = await answered(served, b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert status == 200

    run_served(opened, scenario)


def test_connection_goes_on_when_an_upgrade_is_offered(opened: ServedModel) -> None:
    async def scenario(served: Served) -> None:
        offer = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        end = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert [status for status, _ in await answered(served, offer + rank_request() + end)] == [200] * 3

    run_served(opened, scenario)


@pytest.mark.parametrize("path", [b"/v1/rank", b"/nowhere"])
def test_one_answer_is_given_when_a_body_breaks_off_in_the_middle(opened: ServedModel, path: bytes) -> None:
    async def scenario(served: Served) -> None:
        [(status, error)] = await answered(served, _CHUNKED.replace(b"/v1/rank", path) + b"\r\n2\r\n{}\r\nzz\r\n")
        assert (status, error["where"]) == (400, "body")
        await until(lambda: not served.state.tasks)

    run_served(opened, scenario)


def test_our_own_fault_is_told_as_such_when_it_comes_up_while_a_head_is_read(
    opened: ServedModel, tmp_path: Path
) -> None:
    async def scenario(served: Served) -> None:
        app: Any = served.app
        app.reception.admit = None
        [(status, error)] = await answered(served, rank_request())
        assert (status, error["code"]) == (500, "internal")

    run_served(opened, scenario)

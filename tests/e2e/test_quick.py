"""Small rank requests take a short way through the server, and are answered as those that take the general one."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from e2e.serve_process import Answer, ServerProcess
from e2e.small_served import rank_body
from waiting import wait_until

pytestmark = pytest.mark.e2e
QUICK = {"content-type": "application/json"}
GENERAL = {"content-type": "application/json; charset=utf-8"}
"""The same by its meaning; only the very usual text takes the short way."""


def told(answer: Answer) -> tuple[int, list[str], Any]:
    """What does not differ from one request to the next."""
    body = answer.json
    body.pop("request_id")
    return answer.status, sorted(answer.headers), body


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (rank_body(20), {}),
        (rank_body(20, top_k=3), {"x-rankine-candidates": "20", "x-rankine-session": "s", "x-rankine-priority": "low"}),
        (rank_body(20), {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}),
        (rank_body(20), {"x-rankine-candidates": "19"}),
        (rank_body(20) | {"candidate": {}}, {}),
        (rank_body(0), {}),
        (b"{", {}),
        (b"", {}),
        (rank_body(20), {"x-rankine-deadline-ms": "-1"}),
        (rank_body(20), {"x-rankine-deadline-ms": "never"}),
    ],
)
def test_answer_is_that_of_the_general_way_when_the_request_is_small(
    server: ServerProcess, body: Any, headers: dict[str, str]
) -> None:
    quick, general = (server.ask("POST", "/v1/rank", body, kind | headers) for kind in (QUICK, GENERAL))
    assert told(quick) == told(general)


def raw_request(server: ServerProcess, rows: int = 5) -> bytes:
    body = json.dumps(rank_body(rows)).encode()
    head = (
        f"POST /v1/rank HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_requests_are_answered_in_order_when_they_come_in_one_read(server: ServerProcess) -> None:
    health = b"GET /v2/health/ready HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"".join(raw_request(server, rows) for rows in (3, 5, 4)) + health)
        answers = b""
        while part := connection.recv(1 << 16):
            answers += part
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [len(json.loads(body)["ids"]) for body in bodies[:3]] == [3, 5, 4]
    assert len(bodies) == 4


def test_request_is_answered_when_its_body_comes_in_parts(server: ServerProcess) -> None:
    request = raw_request(server)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for part in (request[:-40], request[-40:-10], request[-10:]):
            connection.sendall(part)
            time.sleep(0.05)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


def test_request_is_counted_when_its_client_leaves_before_its_body_is_there(server: ServerProcess) -> None:
    def left() -> float:
        return server.metric("rankine_requests_total", protocol="rank", status="499")

    before = left()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(raw_request(server)[:-10])
        time.sleep(0.1)
    wait_until(lambda: left() == before + 1)
    assert server.ask("POST", "/v1/rank", rank_body(5)).status == 200

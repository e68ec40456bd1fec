"""Calls to another server: what they bring, and when they end."""

from __future__ import annotations

import socket
import time

import pytest

from rankine.serving.remote.link import Link, LinkTimeout
from rankine.serving.remote.lost import RemoteLost
from unit.answering import answering, http_reply

DRIP = [b"x", 0.05] * 60
"""A byte now and then, for three seconds: no single wait is long."""


@pytest.mark.parametrize(
    "slow",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n", *DRIP],
        [b"HTTP/1.1 200 OK\r\nx-slow: ", *DRIP],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *([b"1\r\nx\r\n", 0.05] * 60)],
        [b"HTTP/1.1 100 Continue\r\n\r\n", *([b"HTTP/1.1 100 Continue\r\n\r\n", 0.05] * 60)],
        [3.0],
    ],
    ids=["body", "headers", "chunks", "interim", "nothing"],
)
def test_call_ends_in_time_when_the_answer_drips(slow: list[bytes | float]) -> None:
    with answering(lambda request: slow) as url:
        link = Link(url)
        begin_s = time.monotonic()
        with pytest.raises(LinkTimeout):
            link.ask("GET", "/", 0.3)
        assert time.monotonic() - begin_s < 1.5


def test_call_ends_in_time_when_the_request_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as full:  # nobody reads what it accepts
        begin_s = time.monotonic()
        with pytest.raises(LinkTimeout):
            Link(f"http://127.0.0.1:{full.getsockname()[1]}").ask("POST", "/", 0.3, bytes(64 << 20))
        assert time.monotonic() - begin_s < 1.5


def test_connection_is_used_again_when_its_answer_was_whole() -> None:
    requests: list[bytes] = []

    def reply(request: bytes) -> list[bytes | float]:
        requests.append(request)
        return [http_reply(b"a" * 100_000, x_told="yes")]

    with answering(reply) as url:
        link = Link(f"{url}/base")
        for _ in range(3):
            status, headers, raw = link.ask("POST", "/at", 30, b"body", {"x-asked": "yes"})
            assert (status, headers["x-told"], raw) == (200, "yes", b"a" * 100_000)
        assert len(link._idle) == 1
        link.close()
    assert all(one.startswith(b"POST /base/at ") and one.endswith(b"\r\n\r\nbody") for one in requests)
    assert all(one.lower().count(b"content-length: 4\r\n") == 1 and b"x-asked: yes" in one for one in requests)


def test_call_goes_out_anew_when_a_kept_connection_was_closed() -> None:
    with answering(lambda request: [http_reply(b"", connection="close")]) as url:
        link = Link(url)
        assert [link.ask("GET", "/", 30)[0] for _ in range(2)] == [200, 200]
        assert not link._idle
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with pytest.raises(RemoteLost, match="cannot be reached"):
            Link(f"http://127.0.0.1:{port}").ask("GET", "/", 30)

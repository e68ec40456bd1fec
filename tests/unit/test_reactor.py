"""Connections that are read together: real sockets, and what the native code makes of what comes in on them."""

from __future__ import annotations

import math
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from time import perf_counter

import pytest

from rankine._native import Reactor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll")

LINE = b"POST /v1/rank HTTP/1.1"
PARTS = (b"HTTP/1.1 503 x\r\nx-request-id: ", b"\r\n\r\n{", b"}")


def request(*lines: bytes, body: bytes = b"{}", first: bytes = LINE) -> bytes:
    return b"\r\n".join([first, b"host: a", b"content-length: %d" % len(body), *lines, b"", body])


def made(**options: object) -> Reactor:
    settings = {
        "most_head": 4096, "most_body": 1000, "most_rows": 500, "budget_s": math.inf, "most_wait_s": 10.0,
        "id_prefix": b"p_", "id_digits": 4,
    }  # fmt: skip
    return Reactor((b"POST /other HTTP/1.1", LINE), **(settings | options))  # type: ignore[arg-type]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's and the server's end of a connection."""
    with ExitStack() as leave:
        listener = leave.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        client = leave.enter_context(closing(socket.create_connection(listener.getsockname())))
        server = leave.enter_context(closing(listener.accept()[0]))
        client.settimeout(5)
        yield client, server


def came(reactor: Reactor) -> list[tuple]:  # type: ignore[type-arg]
    """What is there, once the descriptor says so."""
    assert select.select([reactor.descriptor], [], [], 5)[0]
    return reactor.read(64)


def test_plain_request_is_told_when_it_is_whole(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    assert reactor.read(64) == []
    data = request(b"X-Mine: 1")
    client.sendall(data)
    [(key, whole, line, headers, head_bytes, waited_s)] = came(reactor)
    assert (key, whole, line) == (7, data, 1)
    assert headers == {b"host": b"a", b"content-length": b"2", b"x-mine": b"1"}
    assert whole[head_bytes:] == b"{}"
    assert 0 <= waited_s < 1


@pytest.mark.parametrize(
    "data",
    [
        request()[:-1],
        request() + b"x",
        request(first=b"GET / HTTP/1.1"),
        request(b"transfer-encoding: chunked"),
        request(body=b"x" * 1001),
        request(body=b"x" * 9000),
    ],
)
def test_anything_else_is_told_as_it_came(data: bytes, sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    client.sendall(data)
    [(key, first)] = came(reactor)
    rest = b""
    while len(first) + len(rest) < len(data):
        rest += server.recv(1 << 16)
    assert (key, first + rest) == (7, data)
    assert first


def test_end_of_a_connection_is_told_as_nothing(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    client.close()
    assert came(reactor) == [(7, b"")]


def test_connection_is_not_read_any_more_when_it_was_removed(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    reactor.remove(7)
    reactor.remove(7)
    client.sendall(request())
    assert not select.select([reactor.descriptor], [], [], 0.05)[0]
    assert reactor.send(7, b"x") == 0


def test_connection_is_still_read_when_another_that_is_closed_had_its_number() -> None:
    reactor = made()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        first = socket.create_connection(listener.getsockname())
        accepted = listener.accept()[0]
        number = accepted.fileno()
        reactor.add(number, 1)
        second = socket.create_connection(listener.getsockname())
        accepted.close()
        again = listener.accept()[0]
        with closing(first), closing(second), closing(again):
            assert again.fileno() == number
            reactor.add(number, 2)
            reactor.remove(1)
            second.sendall(request())
            assert [one[0] for one in came(reactor)] == [2]


def test_answer_is_sent_at_once_as_far_as_the_client_reads(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    assert reactor.send(7, b"hello") == 5
    assert client.recv(100) == b"hello"
    much = b"x" * (64 << 20)
    assert 0 < reactor.send(7, much) < len(much)


def refusing(left_s: float = math.inf, **like: float) -> Reactor:
    """A reactor that refuses whoever is like this."""
    reactor = made()
    now_s = perf_counter()
    from_s, due_s = now_s + like.get("from_s", -math.inf), now_s + like.get("due_s", math.inf)
    bound = (from_s, due_s, left_s, int(like.get("rows", 0)), like.get("waited_s", 0.0), 3)
    reactor.refuse([bound], PARTS, now_s + 5)
    return reactor


@pytest.mark.parametrize(
    ("like", "lines", "refused"),
    [
        ({}, [], True),
        ({"rows": 100}, [b"x-rankine-candidates: 100"], True),
        ({"rows": 100}, [b"x-rankine-candidates: 99"], False),
        ({"rows": 100}, [b"x-rankine-candidates: 501"], False),
        ({"rows": 100}, [b"x-rankine-candidates: many"], False),
        ({"rows": 100}, [], False),
        ({"due_s": 1.0}, [b"x-rankine-deadline-ms: 900.5"], True),
        ({"due_s": 1.0}, [b"x-rankine-deadline-ms: 1100"], False),
        ({"from_s": 1.0}, [b"x-rankine-deadline-ms: 900"], False),
        ({"from_s": 1.0}, [b"x-rankine-deadline-ms: 1100"], True),
        ({"due_s": 1.0}, [b"x-rankine-deadline-ms: 0"], False),
        ({"due_s": 1.0}, [b"x-rankine-deadline-ms: 1e1"], False),
        ({"due_s": 1.0}, [], False),
        ({"due_s": 11.0}, [], True),  # by the longest wait
        ({"left_s": 0.5}, [b"x-rankine-deadline-ms: 400"], True),
        ({"left_s": 0.5}, [b"x-rankine-deadline-ms: 600"], False),
        ({}, [b"x-request-id: a"], False),
        ({}, [b"traceparent: a"], False),
        ({}, [b"endpoint-load-metrics-format: json"], False),
        ({}, [b"x-rankine-priority: high"], False),
        ({}, [b"x-rankine-tenant: a"], False),
        ({"waited_s": 0.2}, [], False),
    ],
)
def test_request_is_refused_when_it_is_like_those_that_were(
    like: dict[str, float], lines: list[bytes], refused: bool, sockets: tuple[socket.socket, socket.socket]
) -> None:
    client, server = sockets
    reactor = refusing(**like)
    reactor.add(server.fileno(), 7)
    client.sendall(request(*lines))
    found = came(reactor)
    assert (found == []) is refused
    turned, rows = reactor.take_refused()
    assert [(kind, key) for kind, _, key in turned] == ([(3, 7)] if refused else [])
    assert reactor.take_refused() == ([], 0)
    if refused:
        assert client.recv(1000) == b"HTTP/1.1 503 x\r\nx-request-id: p_0001\r\n\r\n{p_0001}"
        assert rows == (100 if lines and b"candidates" in lines[0] else 1)


def test_request_is_refused_by_how_long_it_has_lain_in_the_kernel(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    client, server = sockets
    reactor = refusing(waited_s=0.05)
    reactor.add(server.fileno(), 7)
    client.sendall(request())
    time.sleep(0.2)
    assert came(reactor) == []
    [(kind, waited_s, key)], _ = reactor.take_refused()
    assert (kind, key) == (3, 7)
    assert 0.05 <= waited_s < 5


def test_request_is_told_when_the_one_before_it_is_not_answered(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.add(server.fileno(), 7)
    client.sendall(request(b"x-first: 1"))
    assert len(came(reactor)) == 1
    reactor.refuse([(-math.inf, math.inf, math.inf, 0, 0.0, 3)], PARTS, perf_counter() + 60)
    client.sendall(request(b"x-second: 2"))
    assert b"x-second" in came(reactor)[0][3]
    reactor.ready(7)
    client.sendall(request())
    assert came(reactor) == []
    assert client.recv(1000).startswith(b"HTTP/1.1 503")


def test_nobody_is_refused_when_the_time_is_over(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.refuse([(-math.inf, math.inf, math.inf, 0, 0.0, 3)], PARTS, perf_counter() - 1e-9)
    reactor.add(server.fileno(), 7)
    client.sendall(request())
    assert len(came(reactor)) == 1


def test_connection_ends_when_its_client_does_not_read_refusals(sockets: tuple[socket.socket, socket.socket]) -> None:
    client, server = sockets
    reactor = made()
    reactor.refuse([(-math.inf, math.inf, math.inf, 0, 0.0, 3)], (b"x" * (64 << 20), b""), perf_counter() + 60)
    reactor.add(server.fileno(), 7)
    client.sendall(request())
    assert came(reactor) == [(7, b"")]


def test_socket_is_refused_when_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="epoll_ctl"):
        made().add(100_000, 1)

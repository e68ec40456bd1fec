"""Requests read without a parser, held to what the parser reads of the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankine.serving.plain import read_plain

LINES_MEANT = (b"POST /v1/other HTTP/1.1", b"POST /v1/rank HTTP/1.1")
LINES = (b"Host: a", b"content-type: application/json", b"Content-Length: 2", b"x-rankine-deadline-ms:\t5 ")


def request(*lines: bytes, first: bytes = b"POST /v1/rank HTTP/1.1", body: bytes = b"{}") -> bytes:
    return b"\r\n".join([first, *lines, b"", body])


@dataclass
class Parsed:
    """What the parser tells of one connection."""

    url: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    messages: int = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))  # which are no part of it (RFC 9110, 5.5)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


def parsed(data: bytes) -> Parsed | None:
    found = Parsed()
    try:
        httptools.HttpRequestParser(found).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return found


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A plain request with a few bytes changed, taken out or put in."""
    data = bytearray(request(*draw(st.permutations(LINES))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data) - 1))
        what = draw(st.sampled_from((b"", b"\r", b"\n", b"\r\n", b":", b" ", b"\0", b"\x80", b"2", b"{", b"\r\n ")))
        data[at : at + draw(st.integers(0, 2))] = what
    return bytes(data)


@settings(max_examples=2000)
@given(nearly_plain())
@example(request(*LINES))
@example(request(*LINES) + request(*LINES))
def test_request_is_never_read_otherwise_than_the_parser_reads_it(data: bytes) -> None:
    plain = read_plain(data, LINES_MEANT)
    if plain is None:
        return
    found = parsed(data)
    assert found is not None
    assert (plain.line, plain.headers, plain.body) == (1, dict(found.headers), found.body)
    assert found.url == b"/v1/rank"
    assert (found.messages, len(found.headers)) == (1, len(plain.headers))


def test_plain_request_is_read_when_it_is_whole() -> None:
    plain = read_plain(request(*LINES), LINES_MEANT)
    assert plain is not None
    assert plain.headers == {
        b"host": b"a",
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"x-rankine-deadline-ms": b"5",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request(*LINES)[:-1],
        request(*LINES) + b"x",
        request(*LINES[1:]),
        request(*LINES, LINES[0]),
        request(*LINES, b"CONTENT-LENGTH: 2"),
        request(*LINES, b"transfer-encoding: chunked"),
        request(*LINES, b"content-encoding: gzip"),
        request(*LINES, b"expect: 100-continue"),
        request(*LINES, b"upgrade: h2c"),
        request(*LINES, b"connection: close"),
        request(*LINES, b"bad name: x"),
        request(*LINES, b"folded: a", b" b"),
        request(*LINES, b"x-large: " + 5000 * b"a"),
        request(LINES[0], LINES[2], b"content-type: text/plain"),
        request(LINES[0], b"content-length: +2"),
        request(LINES[0], b"content-length: 2, 2"),
        request(*LINES, first=b"POST /v1/rank HTTP/1.0"),
        request(*LINES, first=b"GET /v1/rank HTTP/1.1"),
        request(*LINES, first=b"POST /v1/rank?x HTTP/1.1"),
    ],
)
def test_request_is_left_to_the_parser_when_it_is_not_plain(data: bytes) -> None:
    assert read_plain(data, LINES_MEANT) is None

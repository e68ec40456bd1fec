"""What a client accepts as the encoding of a reply."""

from __future__ import annotations

import zlib

import pytest

from rankine.serving.bodies import compress

BODY = b"rankine " * 500


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        (b"gzip", b"gzip"),
        (b"gzip;q=0.5", b"gzip"),
        (b"deflate, GZIP ; Q=1", b"gzip"),
        (b"gzip;q=0, deflate;q=0.1", b"deflate"),
        (b"gzip;q=0.000", None),
        (b"gzip;q=x", None),
        (b"br, identity", None),
        (b"", None),
    ],
)
def test_compress_takes_what_is_accepted_when_clients_give_qualities(accepted: bytes, encoding: bytes | None) -> None:
    body, chosen = compress(BODY, accepted)
    assert chosen == encoding
    assert (body if encoding is None else zlib.decompress(body, 32 + zlib.MAX_WBITS)) == BODY

"""API keys: what a file may hold, who is let in, and files that change; TLS files that are wrong."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from rankine.config import parse
from rankine.errors import ConfigError
from rankine.serving import ServeConfig
from rankine.serving.security import KeyRing, Unauthenticated, read_keys
from rankine.serving.tls import tls_context

FIRST, SECOND = "k3Yf8xQv1TzR7mWcL0pB", "another-key-of-enough-letters"


def _write(path: Path, *lines: str) -> Path:
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines), encoding="utf-8")
    os.replace(new, path)
    return path


def _bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def test_tenant_is_told_when_a_plain_or_hashed_key_is_known(tmp_path: Path) -> None:
    hashed = hashlib.sha256(SECOND.encode()).hexdigest()
    ring = KeyRing(_write(tmp_path / "keys", "# ours", "", f"{FIRST}  shop", f"sha256:{hashed} app"), 0.0)
    assert ring.tenant_of(_bearer(FIRST), 0.0) == "shop"
    assert ring.tenant_of({b"authorization": f"bearer {SECOND}".encode()}, 0.0) == "app"
    assert ring.tenant_of({b"x-api-key": FIRST.encode()}, 0.0) == "shop"


def test_key_is_of_no_tenant_when_its_line_names_none(tmp_path: Path) -> None:
    assert KeyRing(_write(tmp_path / "keys", FIRST), 0.0).tenant_of(_bearer(FIRST), 0.0) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic " + FIRST.encode()},
        {b"authorization": b"Bearer " + FIRST.encode()[:-1]},
        {b"authorization": b"Bearer sha256:" + hashlib.sha256(FIRST.encode()).hexdigest().encode()},
        {b"x-api-key": b"\xff\x00"},
    ],
)
def test_request_is_refused_when_its_key_is_missing_or_unknown(tmp_path: Path, headers: dict[bytes, bytes]) -> None:
    ring = KeyRing(_write(tmp_path / "keys", FIRST), 0.0)
    with pytest.raises(Unauthenticated) as caught:
        ring.tenant_of(headers, 0.0)
    assert caught.value.http_status == 401


def test_keys_are_those_of_the_new_file_when_it_has_changed(tmp_path: Path) -> None:
    path = _write(tmp_path / "keys", FIRST)
    ring = KeyRing(path, 0.0)
    _write(path, FIRST, SECOND)
    with pytest.raises(Unauthenticated):  # the file is looked at once a second
        ring.tenant_of(_bearer(SECOND), 0.5)
    assert ring.tenant_of(_bearer(SECOND), 1.5) is None
    _write(path, f"{SECOND} app")
    assert ring.tenant_of(_bearer(SECOND), 3.0) == "app"
    with pytest.raises(Unauthenticated):
        ring.tenant_of(_bearer(FIRST), 3.0)


@pytest.mark.parametrize("lines", [[], ["short"], None])
def test_keys_stay_and_the_log_says_so_when_the_new_file_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: list[str] | None
) -> None:
    path = _write(tmp_path / "keys", FIRST)
    ring = KeyRing(path, 0.0)
    if lines is None:
        path.unlink()
    else:
        _write(path, *lines)
    with caplog.at_level(logging.ERROR, "rankine.serving"):
        assert ring.tenant_of(_bearer(FIRST), 2.0) is None
        assert ring.tenant_of(_bearer(FIRST), 4.0) is None
    assert [record.message for record in caplog.records] == ["API keys stay as they were"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["# nothing"], "holds no API key"),
        ([FIRST, "short"], "keys:2: is no API key"),
        ([f"{FIRST} a b"], "keys:1: is no key and tenant"),
        (["sha256:12"], "keys:1: is no SHA-256"),
        ([FIRST, f"sha256:{hashlib.sha256(FIRST.encode()).hexdigest()}"], "keys:2: the key is there twice"),
    ],
)
def test_file_is_refused_without_showing_a_key_when_a_line_is_wrong(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_keys(_write(tmp_path / "keys", *lines))
    assert not any(line in str(caught.value) for line in lines)


def test_file_is_refused_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="API keys cannot be read"):
        read_keys(tmp_path / "keys")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tls_cert": "a.pem"}, "`tls_cert` and `tls_key` go together"),
        ({"tls_key": "a.key"}, "`tls_cert` and `tls_key` go together"),
        ({"tls_client_ca": "a.pem"}, "`tls_client_ca` needs"),
    ],
)
def test_settings_are_refused_when_tls_is_not_whole(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(ServeConfig, {"artifact": "small", **options})


def test_tls_is_refused_when_a_file_is_missing_or_holds_no_key(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "cert.key"
    config = ServeConfig(artifact=tmp_path, tls_cert=cert, tls_key=key)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        tls_context(config)
    assert caught.value.where == str(cert)
    cert.write_text("no certificate")
    key.write_text("no key")
    with pytest.raises(ConfigError, match="no certificate and key"):
        tls_context(config)

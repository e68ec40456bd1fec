"""Who may ask: API keys, from a file that is read again when it changes, so that keys rotate without a restart.

The file has a key a line, and behind it, if requests by that key are to count as one tenant's, the tenant's name::

    # keys of at least 16 characters, or their SHA-256
    k3Yf8xQv1TzR7mWcL0pB          shop
    sha256:9f86d081884c7d65...    app

Memory holds digests only. They are SHA-256, which is right for keys that are random (``openssl rand -base64 24``), and
would not be for passwords. A key that is presented is compared with every one of them in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rankine.errors import BadRequest, ConfigError
from rankine.serving.watched_file import WatchedFile

__all__ = ["OPEN_PATHS", "KeyRing", "Unauthenticated"]

OPEN_PATHS = frozenset(
    (
        "/v2/health/live",
        "/v2/health/ready",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    )
)
"""What is answered without a key: probes have none."""
_LEAST_CHARS = 16
_MOST_CHARS = 512
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_PLAIN = re.compile(r"[!-~]+")
_TENANT = re.compile(r"[!-~]{1,128}")


class Unauthenticated(BadRequest):
    """The request brings no API key, or none that is known."""

    code = "unauthenticated"
    http_status: ClassVar[int] = 401


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that may ask: its SHA-256, and the tenant that its requests count as."""

    digest: bytes
    tenant: str | None


class KeyRing:
    """The keys of a file, see :class:`~rankine.serving.watched_file.WatchedFile`.

    Args:
        path: the file; read at once.
        now_s: on the clock of the times that ``tenant_of`` is given.

    Raises:
        ConfigError: the file is missing, empty or wrong.
    """

    def __init__(self, path: Path, now_s: float) -> None:
        self._file = WatchedFile(path, read_keys, "API keys", now_s)

    def tenant_of(self, headers: Mapping[bytes, bytes], now_s: float) -> str | None:
        """The tenant of the key that a request brings; None for a key without one.

        Args:
            headers: names in lower case; the key is in ``authorization: Bearer KEY`` or ``x-api-key: KEY``.

        Raises:
            Unauthenticated: there is no key, or an unknown one.
        """
        presented = _presented(headers)
        digest = hashlib.sha256(presented).digest()
        found: ApiKey | None = None
        for key in self._file.at(now_s):  # all of them, always: the time tells nothing of which one it was
            if hmac.compare_digest(digest, key.digest):
                found = key
        if found is None:
            hint = "Ask the operator of this server for one."
            raise Unauthenticated("the API key is not known here", where="header authorization", hint=hint)
        return found.tenant


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        ConfigError: the file cannot be read, has no key, or names the line that is wrong; a key is never shown.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError("API keys cannot be read", where=str(path), got=got) from None
    keys: dict[bytes, ApiKey] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _key_of(words, f"{path}:{number}")
        if key.digest in keys:
            raise ConfigError("the key is there twice", where=f"{path}:{number}")
        keys[key.digest] = key
    if not keys:
        hint = "Write a key a line, e.g. from: openssl rand -base64 24"
        raise ConfigError("holds no API key", where=str(path), hint=hint)
    return tuple(keys.values())


def _key_of(words: list[str], where: str) -> ApiKey:
    text, *rest = words
    if len(rest) > 1 or (rest and not _TENANT.fullmatch(rest[0])):
        raise ConfigError("is no key and tenant", where=where, allowed="a key, and a tenant's name in plain characters")
    tenant = rest[0] if rest else None
    if text.startswith("sha256:"):
        hashed = _HASHED.fullmatch(text.lower())
        if hashed is None:
            raise ConfigError("is no SHA-256", where=where, allowed="sha256: and 64 hexadecimal digits")
        return ApiKey(bytes.fromhex(hashed[1]), tenant)
    if not _PLAIN.fullmatch(text) or not _LEAST_CHARS <= len(text) <= _MOST_CHARS:
        allowed = f"{_LEAST_CHARS} to {_MOST_CHARS} plain characters, or sha256:DIGEST"
        raise ConfigError("is no API key", where=where, allowed=allowed)
    return ApiKey(hashlib.sha256(text.encode()).digest(), tenant)


def _presented(headers: Mapping[bytes, bytes]) -> bytes:
    """The key in a request's headers."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    key = credentials.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()
    if not key:
        allowed = "authorization: Bearer KEY, or x-api-key: KEY"
        raise Unauthenticated("an API key is needed", where="header authorization", allowed=allowed)
    return key

"""TLS of both transports from the same files: a certificate and its key, and whose certificates clients need."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankine.errors import ConfigError
from rankine.serving.config import ServeConfig

if TYPE_CHECKING:
    import grpc

__all__ = ["grpc_credentials", "tls_context"]


def tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """TLS of HTTP: 1.2 or later; with ``tls_client_ca`` clients must show a certificate (mutual TLS). None without TLS.

    Raises:
        ConfigError: a file cannot be read, is no PEM, or certificate and key do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _read(config.tls_cert)
    _read(config.tls_key)
    try:
        # Without a password of our own OpenSSL would ask for one at the terminal.
        context.load_cert_chain(config.tls_cert, config.tls_key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        where = f"{config.tls_cert}, {config.tls_key}"
        allowed = "a certificate chain and its unencrypted key, both PEM"
        raise ConfigError("no certificate and key", where=where, got=_reason(error), allowed=allowed) from None
    if config.tls_client_ca is not None:
        _read(config.tls_client_ca)
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError as error:
            where = str(config.tls_client_ca)
            raise ConfigError("no certificates", where=where, got=_reason(error), allowed="PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def grpc_credentials(config: ServeConfig) -> grpc.ServerCredentials | None:
    """The same for gRPC, of files that :func:`tls_context` has read."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    import grpc

    pair = (_read(config.tls_key), _read(config.tls_cert))
    authority = None if config.tls_client_ca is None else _read(config.tls_client_ca)
    credentials: Any = grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
    return credentials


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError("cannot be read", where=str(path), got=error.strerror) from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)

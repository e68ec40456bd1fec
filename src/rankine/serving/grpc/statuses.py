"""Errors as gRPC tells them: a status code, one text, and details that a program can read.

Source: the codes of gRPC and their HTTP counterparts in google/rpc/code.proto; details in ``grpc-status-details-bin``
(the richer error model, AIP-193); ``grpc-retry-pushback-ms`` of gRFC A6, which gRPC's own retries obey.
"""

from __future__ import annotations

from typing import Any

import grpc

from rankine.errors import RankineError
from rankine.serving.grpc.messages import message_class

__all__ = ["Metadata", "code_of", "details_of", "text_of"]

Metadata = tuple[tuple[str, "str | bytes"], ...]
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_DOMAIN = "rankine"
_MOST_CHARS = 400
"""Of the text and of each detail: clients take 8 KiB of metadata, and refuse the whole reply if there is more."""
_Status = message_class("google.rpc.Status")
_ErrorInfo = message_class("google.rpc.ErrorInfo")
_RetryInfo = message_class("google.rpc.RetryInfo")


def code_of(http_status: int) -> grpc.StatusCode:
    """The status code for what HTTP calls ``http_status``."""
    code = _CODES.get(http_status)
    if code is not None:
        return code
    return grpc.StatusCode.INVALID_ARGUMENT if 400 <= http_status < 500 else grpc.StatusCode.INTERNAL


def text_of(error: RankineError) -> str:
    """The error as one text, short enough for metadata."""
    return _short(str(error))


def details_of(error: RankineError) -> Metadata:
    """Trailing metadata: the error's fields as ``google.rpc.ErrorInfo``, and when to try again if that is known."""
    status = _Status(code=code_of(error.http_status).value[0], message=text_of(error))
    fields = {name: _short(text) for name, text in error.as_dict().items()}
    _add(status, _ErrorInfo(reason=fields.pop("code").upper(), domain=_DOMAIN, metadata=fields))
    retry_after_s = getattr(error, "retry_after_s", None)
    retry: Metadata = ()
    if retry_after_s is not None:
        info = _RetryInfo()
        info.retry_delay.FromMilliseconds(round(1000 * retry_after_s))
        _add(status, info)
        retry = (("grpc-retry-pushback-ms", str(round(1000 * retry_after_s))),)
    return (*retry, ("grpc-status-details-bin", status.SerializeToString()))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"


def _add(status: Any, detail: Any) -> None:
    status.details.add().Pack(detail)

"""W3C Trace Context: whose trace a request is part of.

Source: W3C Recommendation "Trace Context" level 1, section 3.2. A header that is not valid is as if it were absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["TRACEPARENT", "TraceContext", "trace_of"]

TRACEPARENT = b"traceparent"
"""The header that tells."""
_HEADER = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_VERSION = b"ff"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace of a request, and the client's span in it.

    Attributes:
        trace_id: 32 hexadecimal digits; ``span_id``: 16.
        sampled: the client records its part of the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def header(self) -> str:
        """As a ``traceparent`` header of version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def trace_of(headers: Mapping[bytes, bytes]) -> TraceContext | None:
    """What a request's ``traceparent`` says, None where it says nothing; names of headers are lower case."""
    raw = headers.get(TRACEPARENT)
    found = None if raw is None else _HEADER.fullmatch(raw.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _NO_VERSION or (version == b"00" and more) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))

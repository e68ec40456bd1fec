"""Trace context of requests, and what is imported for spans where nobody wants them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rankine.serving.trace import trace_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f" 00-{TRACE}-{SPAN}-03 ", True),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_trace_is_read_when_the_header_is_valid(header: str, sampled: bool) -> None:
    trace = trace_of({b"traceparent": header.encode()})
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.sampled) == (TRACE, SPAN, sampled)
    assert trace.header == f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_trace_is_none_when_the_header_is_not_valid(header: str) -> None:
    assert trace_of({b"traceparent": header.encode()}) is None
    assert trace_of({}) is None


@pytest.mark.parametrize("absent", ["opentelemetry", "grpc", "google.protobuf"])
def test_nothing_is_imported_when_no_endpoint_and_no_grpc_port_are_set(absent: str) -> None:
    program = f"""
import os, sys
os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
from rankine.serving.config import ServeConfig
from rankine.serving.grpc import check_grpc
from rankine.serving.server import serve
from rankine.serving.spans import open_spans
check_grpc(ServeConfig(artifact="none"))
assert open_spans() is None
sys.exit(int({absent!r} in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0

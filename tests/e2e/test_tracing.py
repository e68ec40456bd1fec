"""Trace context through both transports, and spans at a collector."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from conftest import end_without
from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig

try:
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
except ModuleNotFoundError as error:
    end_without(str(error))

from e2e.grpc_served import grpc_address, rank_message, rank_method

pytestmark = pytest.mark.e2e
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class _Collector(ThreadingHTTPServer):
    """Takes spans as OTLP over HTTP has them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, _Collector)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the name is the library's
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[_Collector]:
    made = _Collector()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(10)


def _rank_over_both(server: ServerProcess) -> None:
    """A request of the trace by HTTP, then one by gRPC: their replies say so."""
    answer = server.ask("POST", "/v1/rank", rank_body(5), {"traceparent": PARENT})
    assert (answer.status, answer.headers["traceparent"]) == (200, PARENT)
    with grpc.insecure_channel(grpc_address(server)) as channel:
        _, call = rank_method(channel).with_call(rank_message(5), metadata=[("traceparent", PARENT)])
    assert dict(call.trailing_metadata())["traceparent"] == PARENT


def test_trace_is_in_log_and_reply_when_a_request_brings_it(config: ServeConfig) -> None:
    server = start_server(config.model_copy(update={"grpc_port": 0, "log_requests": True}))
    _rank_over_both(server)
    assert "traceparent" not in server.ask("POST", "/v1/rank", rank_body(5)).headers
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    traced = {line["path"]: line["trace_id"] for line in lines if "trace_id" in line}
    assert traced == {"/v1/rank": TRACE, "/rankine.Ranker/Rank": TRACE}


def test_spans_reach_the_collector_with_their_parts_when_an_endpoint_is_set(
    config: ServeConfig, collector: _Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    server = start_server(config.model_copy(update={"grpc_port": 0}))
    _rank_over_both(server)
    assert server.ask("POST", "/v1/rank", {"candidates": {"ids": []}}, {"traceparent": PARENT}).status == 400
    assert server.ask("GET", "/v2/health/live").status == 200
    assert server.stop() == 0  # what was recorded is sent before the process ends
    whole = [span for span in collector.spans if span.name.startswith("POST ")]
    assert sorted(span.name for span in whole) == ["POST /rankine.Ranker/Rank", "POST /v1/rank", "POST /v1/rank"]
    assert len(collector.spans) == 3 + 2 * 4
    for span in whole:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
        parts = [part for part in collector.spans if part.parent_span_id == span.span_id]
        status = {attribute.key: attribute.value.int_value for attribute in span.attributes}["rankine.status"]
        assert [part.name for part in parts] == (["features", "queue", "engine", "reply"] if status == 200 else [])
        for part in parts:
            assert span.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
            assert part.end_time_unix_nano <= span.end_time_unix_nano

"""OpenTelemetry spans of requests: what each spent on features, in the queue, in the engine and on its reply.

Exported over OTLP (HTTP) to the endpoint that OpenTelemetry's own variables name (``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``), which also say whatever else is to be set. Where none is set, nothing is
imported and nothing recorded. Spans are made when a request is over, from the times that were noted on its way.
"""

from __future__ import annotations

import os
import time
from time import perf_counter
from typing import Any

from msgspec import Struct

from rankine.serving.logs import LOGGER
from rankine.serving.trace import TraceContext

__all__ = ["Marks", "Spans", "open_spans"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_FLUSH_MS = 2_000


class Marks(Struct, frozen=True):
    """Of a request that has run: when its work was ready and its outcome back, how long it waited and how long it ran.

    Times are on the clock of ``time.perf_counter``.
    """

    ready_s: float
    queue_s: float
    run_s: float
    back_s: float

    @property
    def scored_s(self) -> float:
        """When its scores were there, in the worker."""
        return self.ready_s + self.queue_s + self.run_s


def open_spans() -> Spans | None:
    """Spans where an endpoint is set; None where there is none, or, with a warning, where the extra ``otel`` lacks."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        return Spans()
    except ModuleNotFoundError as error:
        fields = {"missing": error.name, "run": "pip install 'rankine[otel]'"}
        LOGGER.warning("spans are not recorded", extra={"fields": fields})
        return None


class Spans:
    """Makes the spans of requests, and sends them from a thread of its own."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME") or "rankine"
        self._trace: Any = trace
        self._provider: Any = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Any = self._provider.get_tracer("rankine.serving")

    def record(
        self, name: str, arrived_s: float, marks: Marks | None, parent: TraceContext | None, attributes: dict[str, Any]
    ) -> None:
        """The span of a request that is over, below its client's; and, if it has run, those of its four parts."""
        end_s = perf_counter()
        offset_ns = time.time_ns() - round(1e9 * end_s)

        def at(moment_s: float) -> int:
            return offset_ns + round(1e9 * moment_s)

        whole = self._tracer.start_span(
            name,
            context=self._context(parent),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=at(arrived_s),
        )
        inside = self._trace.set_span_in_context(whole)
        for part, start_s, stop_s in _parts(arrived_s, marks, end_s):
            self._tracer.start_span(part, context=inside, start_time=at(start_s)).end(at(stop_s))
        whole.end(at(end_s))

    def close(self) -> None:
        """Send what was recorded."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

    def _context(self, parent: TraceContext | None) -> Any:
        if parent is None:
            return None
        flags = self._trace.TraceFlags(int(parent.sampled))
        span = self._trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, flags)
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(span))


def _parts(arrived_s: float, marks: Marks | None, end_s: float) -> list[tuple[str, float, float]]:
    if marks is None:
        return []
    begun_s = marks.ready_s + marks.queue_s
    return [
        ("features", arrived_s, marks.ready_s),
        ("queue", marks.ready_s, begun_s),
        ("engine", begun_s, begun_s + marks.run_s),
        ("reply", marks.back_s, end_s),
    ]

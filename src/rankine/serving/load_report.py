"""What every reply tells of the load: clients and proxies that balance over several servers choose by it.

Two plain headers always; the same as ORCA (Open Request Cost Aggregation, the ``endpoint-load-metrics`` header that
Envoy reads) where the request asks for it by ``endpoint-load-metrics-format: json``, as Triton server has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Load", "load_headers"]

Header = tuple[bytes, bytes]


class Load(Protocol):
    """What is told, as the pool has it."""

    @property
    def queued_rows(self) -> int: ...

    @property
    def predicted_wait_s(self) -> float: ...


def load_headers(load: Load, asked: Mapping[bytes, bytes]) -> tuple[Header, ...]:
    """The report as headers of a reply; ``asked``: headers of the request, lower case."""
    wait_ms, rows = 1000 * load.predicted_wait_s, load.queued_rows
    plain = ((b"x-rankine-predicted-wait-ms", b"%.3f" % wait_ms), (b"x-rankine-queued-rows", b"%d" % rows))
    if asked.get(b"endpoint-load-metrics-format", b"").strip().lower() != b"json":
        return plain
    orca = b'JSON {"named_metrics":{"predicted_wait_ms":%.3f,"queued_rows":%d}}' % (wait_ms, rows)
    return (*plain, (b"endpoint-load-metrics", orca))

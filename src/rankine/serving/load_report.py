"""What every reply tells of the load: clients and proxies that balance over several servers choose by it.

Two plain headers always; the same as ORCA (Open Request Cost Aggregation, the ``endpoint-load-metrics`` header that
Envoy reads) where the request asks for it by ``endpoint-load-metrics-format: json``, as Triton server has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from rankine.serving.http import Header, lines_of

__all__ = ["ASKS", "Load", "LoadReport"]

ASKS = b"endpoint-load-metrics-format"
"""The header by which a request asks for ORCA."""
_FRESH_S = 1e-3


class Load(Protocol):
    """What is told, as the pool has it."""

    @property
    def queued_rows(self) -> int: ...

    @property
    def predicted_wait_s(self) -> float: ...


class LoadReport:
    """The report as headers of replies; one serves all replies of a millisecond."""

    def __init__(self) -> None:
        self._until_s = -math.inf
        self._plain: tuple[Header, ...] = ()
        self._lines = b""
        self._orca: Header = (b"", b"")

    def headers(self, load: Load, asked: Mapping[bytes, bytes], now_s: float) -> tuple[Header, ...]:
        """What is told of ``load``; ``asked``: headers of the request, lower case."""
        self._refresh(load, now_s)
        wanted = asked.get(ASKS)
        if wanted is None or wanted.strip().lower() != b"json":
            return self._plain
        return (*self._plain, self._orca)

    def lines(self, load: Load, now_s: float) -> bytes:
        """The plain headers, as they are sent."""
        self._refresh(load, now_s)
        return self._lines

    def _refresh(self, load: Load, now_s: float) -> None:
        if now_s < self._until_s:
            return
        wait_ms, rows = 1000 * load.predicted_wait_s, load.queued_rows
        self._plain = (
            (b"x-rankine-predicted-wait-ms", b"%.3f" % wait_ms),
            (b"x-rankine-queued-rows", b"%d" % rows),
        )
        self._lines = lines_of(self._plain)
        orca = b'JSON {"named_metrics":{"predicted_wait_ms":%.3f,"queued_rows":%d}}' % (wait_ms, rows)
        self._orca = (b"endpoint-load-metrics", orca)
        self._until_s = now_s + _FRESH_S

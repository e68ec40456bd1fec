"""What a run of `serving_device_pool.py` leaves, and its section of the rendered page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import AwareDatetime

from rankine.config import Frozen

Who = Literal["fast", "slow", "pool"]
LEAST_GAIN, NEVER_BELOW = 1.15, 1.0
"""The bar: of the median of the repeats, and of each."""


class Probe(Frozen):
    """One rate that was tried once; ``p99_ms`` of the answers, from when they were due; None where there was none."""

    who: Who
    repeat: int
    rate_rps: float
    requests: int
    missed: float
    p99_ms: float | None
    loop_ms: float
    placements: Mapping[str, int]
    held: bool


class Found(Frozen):
    """The highest rates that were sustained with the same arrivals; 0 where none was.

    Attributes:
        control_ms: median time of the fast engine alone for 512 rows, before and after.
    """

    repeat: int
    fast_rps: float
    pool_rps: float
    control_ms: tuple[float, float]

    @property
    def gain(self) -> float:
        """The pool over the fast one alone."""
        return self.pool_rps / self.fast_rps


class DevicePoolResult(Frozen):
    """All that was measured.

    Attributes:
        fast, slow: engines; ``ratio`` of their median times for 512 rows, one after the other.
        loop_ms: what the event loop, which shares the slow engine's core, computes for a request of the pool.
    """

    schema_version: Literal[1] = 1
    kind: Literal["serving-device-pool"] = "serving-device-pool"
    model: str
    fast: str
    slow: str
    slo_ms: float
    fast_ms: float
    slow_ms: float
    slow_rps: float
    loop_ms: float
    found: tuple[Found, ...]
    probes: tuple[Probe, ...]
    created: AwareDatetime
    environment: Mapping[str, Any]

    @property
    def ratio(self) -> float:
        """Time of the slow engine over that of the fast one."""
        return self.slow_ms / self.fast_ms

    @property
    def limit(self) -> float:
        """Capacity of both together over that of the fast one."""
        return 1 + 1 / self.ratio

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        gains = [one.gain for one in self.found]
        return min(gains) >= NEVER_BELOW and float(np.median(gains)) >= LEAST_GAIN

    @property
    def control_spread(self) -> float:
        """By how much the slowest control took longer than the fastest."""
        times = [time for one in self.found for time in one.control_ms]
        return max(times) / min(times) - 1


def device_pool_lines(path: Path) -> list[str]:
    """The section of the page about a result file; nothing where there is none."""
    if not path.exists():
        return []
    result = DevicePoolResult.model_validate_json(path.read_text(encoding="utf-8"))
    gains = [one.gain for one in result.found]
    rows = [
        f"| {one.repeat + 1} | {one.fast_rps:,.0f} | {one.pool_rps:,.0f} | **{one.gain:.2f}** |" for one in result.found
    ]
    told = "met" if result.met else "missed"
    slow = f"{result.slow_rps:,.0f} requests/s" if result.slow_rps else "no rate at all"
    return [
        "## Two devices beside one",
        "",
        f"{result.model}: {result.fast} on one core, {result.slow} on another, {result.ratio:.1f} times as slow on 512",
        "rows. The server's pool in one process, requests encoded ahead, exponential arrivals, MLPerf's numbers of",
        f"candidates, p99 and deadline {result.slo_ms:g} ms, misses at most 1 %. The slow one alone sustains {slow}.",
        f"The event loop runs on the slow one's core and computes {result.loop_ms:.2f} ms for a request.",
        "Each repeat has arrivals of its own, the same for both.",
        "",
        "| repeat | fast alone, requests/s | pool | pool to fast |",
        "| ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"Median **{np.median(gains):.2f}**, from {min(gains):.2f} to {max(gains):.2f}; "
        f"together they have {result.limit:.2f} times its capacity. "
        f"Bar: at least {LEAST_GAIN:g}, never below {NEVER_BELOW:g}: {told}.",
        f"Controls (the fast engine alone) within {result.control_spread:.0%}.",
        "",
    ]

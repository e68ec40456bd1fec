"""What a run of `tvm_latency.py` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from native_speed.record import Failure, Side, Timing
from pydantic import AwareDatetime, Field

from rankine.config import Frozen


class Comparison(Frozen):
    """One side of ours and one peer in one race: of the medians, and quartiles over the turns."""

    ours: Side
    peer: Side
    rows: int = Field(ge=1)
    ratio: float
    low: float
    high: float


class TvmLatency(Frozen):
    """A run.

    Attributes:
        build_s: seconds of each build of tvm's, by the side's label.
        facts: operations a row, peaks, and the instruction set that ``native`` stands for.
    """

    schema_version: Literal[1] = 1
    kind: Literal["tvm-latency"] = "tvm-latency"
    timings: tuple[Timing, ...]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failure, ...] = ()
    build_s: Mapping[str, float]
    facts: Mapping[str, float | int | str]
    created: AwareDatetime
    environment: Mapping[str, Any]

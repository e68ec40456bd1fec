"""What `serving_soak.py` and `serving_faults.py` leave, and their sections of the page of the serving proof."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime

from rankine.config import Frozen

MOST_MEMORY_GROWTH, MOST_OTHER_GROWTH = 0.02, 1.0
MOST_RECOVERY_S = 2.0


class Sample(NamedTuple):
    """What the server's processes hold together."""

    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int


class Soak(Frozen):
    """One long run.

    Attributes:
        memory_growth: over the time after the warm-up, of what was held at its beginning.
        descriptors_growth, threads_growth: over that time, in numbers.
    """

    schema_version: Literal[1] = 1
    kind: Literal["serving-soak"] = "serving-soak"
    model: str
    rate_rps: float
    duration_s: float
    warmup_s: float
    requests: int
    outcomes: Mapping[str, int]
    p99_ms: float | None
    memory_growth: float
    descriptors_growth: float
    threads_growth: float
    samples: tuple[Sample, ...]
    created: AwareDatetime
    environment: Mapping[str, Any]

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        others = max(self.descriptors_growth, self.threads_growth)
        return self.memory_growth < MOST_MEMORY_GROWTH and others < MOST_OTHER_GROWTH


class FaultRun(Frozen):
    """One fault.

    Attributes:
        recovery_s: None where requests were not answered in time again; of a server that ends there is none.
        lost: requests that were accepted and never answered. ``refused``: those that were told so.
    """

    name: str
    title: str
    rate_rps: float
    requests: int
    outcomes: Mapping[str, int]
    recovery_s: float | None
    ends: bool
    lost: int
    refused: int

    @property
    def met(self) -> bool:
        """Whether the bar is."""
        if self.ends:
            return not self.lost
        return self.recovery_s is not None and self.recovery_s < MOST_RECOVERY_S


class Faults(Frozen):
    """All of them; each the last time that it was tried."""

    schema_version: Literal[1] = 1
    kind: Literal["serving-faults"] = "serving-faults"
    runs: tuple[FaultRun, ...] = ()
    created: AwareDatetime
    environment: Mapping[str, Any]


def soak_lines(path: Path) -> list[str]:
    """The soak; nothing where there is no result file."""
    if not path.exists():
        return []
    one = Soak.model_validate_json(path.read_text(encoding="utf-8"))
    cells = (
        one.model,
        f"{one.duration_s / 60:g} min at {one.rate_rps:,.0f}/s",
        f"{one.memory_growth:+.2%} of {one.samples[-1].rss_bytes / 2**20:,.0f} MiB",
        f"{one.descriptors_growth:+.1f}",
        f"{one.threads_growth:+.1f}",
        f"memory < {MOST_MEMORY_GROWTH:.0%}, no more descriptors",
        _verdict(one.met),
    )
    return [
        "## Soak",
        "",
        f"Growth after the first {one.warmup_s:.0f} s, by the median of all slopes between two samples.",
        "",
        "| model | load | memory | descriptors | threads | bar | |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
        f"| {' | '.join(cells)} |",
        "",
    ]


def fault_lines(path: Path) -> list[str]:
    """The faults; nothing where there is no result file."""
    if not path.exists():
        return []
    lines = [
        "## Faults",
        "",
        "*Recovery*: until 95 % of the requests are in time again. *Lost*: accepted and never answered.",
        "",
        "| fault | requests/s | recovery, s | lost | refused | bar | |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for one in Faults.model_validate_json(path.read_text(encoding="utf-8")).runs:
        bar = "none lost" if one.ends else f"< {MOST_RECOVERY_S:g} s"
        told = "" if one.ends else "never" if one.recovery_s is None else f"{one.recovery_s:.1f}"
        counts = f"{one.lost} | {one.refused} of {one.requests:,}"
        lines.append(f"| {one.title} | {one.rate_rps:g} | {told} | {counts} | {bar} | {_verdict(one.met)} |")
    return [*lines, ""]


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"

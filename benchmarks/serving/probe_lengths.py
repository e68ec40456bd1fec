"""What `serving_probe_lengths.py` leaves, and its part of the page of the serving proof."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from rankine.config import Frozen
from serving.traffic import Kind


class ProbeLength(Frozen):
    """One length of probes under one traffic.

    Attributes:
        like: whose service times; ``rate_rps`` is the median of the limits that the traces had.
        rate_spread, ratio_spread: standard deviation over the mean, over traces: of the limit, and of its ratio to that
            of a server that spends more on each request, under the same arrivals.
    """

    traffic: Kind
    like: str
    probe_s: float
    rate_rps: float
    rate_spread: float
    ratio_spread: float


class ProbeLengths(Frozen):
    """All of them."""

    schema_version: Literal[1] = 1
    kind: Literal["serving-probe-lengths"] = "serving-probe-lengths"
    traces: int
    found: tuple[ProbeLength, ...]
    created: AwareDatetime


def probe_length_lines(path: Path) -> list[str]:
    """The table; nothing where there is no result file."""
    if not path.exists():
        return []
    result = ProbeLengths.model_validate_json(path.read_text(encoding="utf-8"))
    rows = [
        f"| {one.like} | {one.traffic} | {one.probe_s:g} | {one.rate_rps:,.0f} | {one.rate_spread:.1%} "
        f"| {one.ratio_spread:.1%} |"
        for one in result.found
    ]
    return [
        "### How long a probe must be",
        "",
        "Simulated, one processor, first in first out: by how much the limit that probes find differs from one trace",
        "to the next, and by how much the ratio of two servers under the same trace does, the other one spending more",
        f"on each request. Standard deviations over {result.traces} traces; the median of several rounds varies less.",
        "",
        "| service times like | traffic | probe, s | limit, requests/s | limit varies by | ratio varies by |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
    ]

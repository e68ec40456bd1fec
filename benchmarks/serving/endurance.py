"""What `serving_soak.py` and `serving_faults.py` left, as parts of the page of the serving proof."""

from __future__ import annotations

import json
from pathlib import Path

MOST_GROWTH, MOST_RECOVERY_S = "memory < 2 %, no more descriptors", 2.0


def soak_lines(path: Path) -> list[str]:
    """The soak; nothing where there is no result file."""
    if not path.exists():
        return []
    one = json.loads(path.read_text(encoding="utf-8"))
    held = one["samples"][-1]
    met = one["memory_growth"] < 0.02 and max(one["descriptors_growth"], one["threads_growth"]) < 1
    cells = (
        one["model"],
        f"{one['duration_s'] / 60:g} min at {one['rate_rps']:,.0f}/s",
        f"{one['memory_growth']:+.2%} of {held[1] / 2**20:,.0f} MiB",
        f"{one['descriptors_growth']:+.1f}",
        f"{one['threads_growth']:+.1f}",
        MOST_GROWTH,
        _verdict(met),
    )
    return [
        "## Soak",
        "",
        f"Growth after the first {one['warmup_s']:.0f} s, by the median of all slopes between two samples.",
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
    for one in json.loads(path.read_text(encoding="utf-8"))["runs"]:
        recovery_s = one["recovery_s"]
        bar = "none lost" if one["ends"] else f"< {MOST_RECOVERY_S:g} s"
        met = not one["lost"] if one["ends"] else recovery_s is not None and recovery_s < MOST_RECOVERY_S
        told = "" if one["ends"] else "never" if recovery_s is None else f"{recovery_s:.1f}"
        counts = f"{one['lost']} | {one['refused']} of {one['requests']:,}"
        lines.append(f"| {one['title']} | {one['rate_rps']:g} | {told} | {counts} | {bar} | {_verdict(met)} |")
    return [*lines, ""]


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"

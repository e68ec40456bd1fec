"""Render the proof of elastic serving into docs/reference/serving-proof.md.

$ python benchmarks/render_serving.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from serving.bars import bars_of
from serving.device_pool import device_pool_lines
from serving.endurance import fault_lines, soak_lines
from serving.page import goodput_lines, number, oracle_lines, overload_lines, table, title, traffic_of
from serving.peers.own import OWN
from serving.probe_lengths import probe_length_lines
from serving.queries import Mix
from serving.record import FrontEnd, ServingProof, Simulation, read_result
from serving.standing import by_contest, standings
from serving.traffic import BURST_FACTOR, BURST_MEAN_S, BURST_SHARE, FLASH_FACTOR

Row = TypeVar("Row", FrontEnd, Simulation)
ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "serving-proof.json"
FAULTS, SOAK = (RESULT.with_name(f"serving-{part}.json") for part in ("faults", "soak"))
PROBE_LENGTHS = ROOT / "benchmarks" / "results" / "serving-probe-lengths.json"
DEVICE_POOL = ROOT / "benchmarks" / "results" / "serving-device-pool.json"
PAGE = ROOT / "docs" / "reference" / "serving-proof.md"
INTRODUCTION = """\
# Rankine and other servers, the same engine behind each

Rendered by `python benchmarks/render_serving.py` from the result file of `benchmarks/serving_goodput.py`. Do not edit
it.

Every server runs as a process of its own on one core, the load generator on another, and takes requests over HTTP in
the form that it takes best: request features and item ids in, the best {top_k} out. Behind each is the native engine
with the same model in parts, items completed ahead, so that only the serving differs; before it is timed, a server must
rank as the engine does. *big* is DCN-v2 (big) in INT8 with random weights, *small* the fastest certified MovieLens-1M
variant.

Users and items are drawn by Zipf's law (exponent {zipf:g}). Latency counts from the time at which a request was *due*;
refusals, failures and late answers are misses. A rate is sustained when p99 is within the bound of {slo_ms:g} ms and
misses are at most 1 %. *Bursts*: a two-state Markov process, {burst_factor:g} times the rate in {burst_share:.0%} of
the time, {burst_s:g} s at a time. *Day*: a sine, and a flash crowd at {flash_factor:g} times that.
"""


def render(result: ServingProof) -> str:
    """The page; parts that were not measured are left out or named at its end."""
    slo_ms = result.rounds[0].slo_ms if result.rounds else 50.0
    mix = Mix()
    told = INTRODUCTION.format(
        slo_ms=slo_ms,
        zipf=mix.zipf,
        top_k=mix.top_k,
        burst_factor=BURST_FACTOR,
        burst_share=BURST_SHARE,
        burst_s=BURST_MEAN_S,
        flash_factor=FLASH_FACTOR,
    )
    lines = [told]
    if not (result.rounds or result.front_end or result.ladder):
        return f"{lines[0]}\nNo results are committed yet.\n"
    lines += (
        _bars(result)
        + goodput_lines(result)
        + probe_length_lines(PROBE_LENGTHS)
        + oracle_lines(result)
        + overload_lines(result)
        + _ladder(result)
        + _front_end(result)
        + _simulator(result)
        + fault_lines(FAULTS)
        + soak_lines(SOAK)
        + device_pool_lines(DEVICE_POOL)
        + _not_run(result)
        + _made_of(result)
    )
    return "\n".join(lines).rstrip() + "\n"


def _bars(result: ServingProof) -> list[str]:
    found = bars_of(result)
    if not found:
        return []
    rows = [(bar.what, bar.wanted, bar.found, bar.verdict) for bar in found]
    return ["## Bars", "", *table(("what", "bar", "found", ""), rows, text_columns=4)]


def _ladder(result: ServingProof) -> list[str]:
    lines = ["## Quality that bends", ""] if result.ladder else []
    for one in result.ladder:
        lines += [
            f"### The ladder of *{one.case.model}*",
            "",
            f"{one.factor:g} times what {one.base} sustains ({one.base_rps:,.0f} requests/s),",
            f"with a floor of {one.floor:g}: {one.offered_rps:,.0f} requests/s. {one.in_time_share:.2%} were answered",
            f"in time, {one.shed} refused; p99 {number(one.p99_ms)} ms. After the load fell, the best rung",
            f"answered again in {one.back_up_s:.1f} s.",
            "",
        ]
        rows = [(f"{one.base} (what the rate is of)", f"{one.base_margin:g}", number(one.base_request_ms, 2), "")]
        for rung in one.rungs:
            name = f"{rung.variant} on {rung.engine}"
            rows.append((name, f"{rung.margin:g}", number(rung.request_ms, 2), f"{rung.share:.0%}"))
        head = ("rung", "margin", "engine's ms a request", "share of the answers")
        lines += table(head, rows, text_columns=1)
    return lines


def _simulator(result: ServingProof) -> list[str]:
    if not result.simulator:
        return []
    head = ("model", "traffic", "sustained", "simulated", "at", "p50 ms", "simulated", "p99 ms", "simulated")
    rows = []
    for one in _sorted(result.simulator):
        rates = (number(one.real_rps, 0), number(one.simulated_rps, 0))
        for point in one.points:
            real, simulated = (point.real_p50_ms, point.real_p99_ms), (point.simulated_p50_ms, point.simulated_p99_ms)
            times = [number(value) for pair in zip(real, simulated, strict=True) for value in pair]
            rows.append((one.case.model, traffic_of(one.case), *rates, f"{point.share:.0%}", *times))
    told = [
        "The simulator gets the very requests that the server got. What else goes into it is measured in the same run,",
        "before, between and after: the engine's times, and what the server spends on heads, bodies, replies, refusals",
        "and new connections. *Sustained* is the median of several searches. Nothing is fitted to what is compared.",
    ]
    return ["## The simulator beside it", "", *told, "", *table(head, rows, text_columns=2)]


def _front_end(result: ServingProof) -> list[str]:
    if not result.front_end:
        return []
    head = ("server", "model", "client p50 ms", "engine p50 ms", "added ms", "client p99 ms")
    rows = [
        (
            title(result, one.case.server),
            one.case.model,
            number(one.client_p50_ms, 2),
            number(one.run_p50_ms, 2),
            f"**{one.added_ms:.2f}**",
            number(one.client_p99_ms, 2),
        )
        for one in _sorted(result.front_end)
    ]
    told = "One client, 500 ids, one request after the other; *engine* is its call as the server recorded it."
    return ["## What the front end adds", "", told, "", *table(head, rows, text_columns=2)]


def _not_run(result: ServingProof) -> list[str]:
    lines = [f"* {result.titles.get(name, name)}: {why}." for name, why in sorted(result.missing.items())]
    for rounds in by_contest(result):
        contest = rounds[0].contest
        found = standings(result, contest)
        where = f"{contest.model}, {traffic_of(contest)}"
        lacking = [told for name, told in result.titles.items() if name not in found and name not in result.missing]
        if lacking:
            lines.append(f"* Goodput, {where}: {', '.join(lacking)}.")
        for name, one in found.items():
            if one.capped:
                sure = "no rate failed, or the generator was the bottleneck; the limit may lie higher"
                lines.append(f"* {result.titles.get(name, name)}, {where}: {sure}.")
    return ["## What was not run, and what is not sure", "", *lines, ""] if lines else []


def _made_of(result: ServingProof) -> list[str]:
    lines = ["## Servers and settings", ""]
    settings = {one.case.server: one.settings for one in result.front_end}
    settings |= {name: turn.settings for one in result.rounds for name, turn in one.turns.items()}
    for name, told in result.titles.items():
        versions = ", ".join(f"{package} {version}" for package, version in result.versions.get(name, {}).items())
        given = ", ".join(f"{key} {value}" for key, value in settings.get(name, {}).items())
        lines.append(f"* {told}: {'; '.join(part for part in (versions, given) if part) or 'as installed'}")
    one = next(iter((*result.rounds, *result.front_end, *result.ladder)))
    where = f"Taken on {one.created:%Y-%m-%d}, {one.environment.get('cpu', 'unknown processor')}."
    return [*lines, "", where, ""]


def _sorted(rows: Iterable[Row]) -> list[Row]:
    """By model, Rankine first, the others in the order in which they were measured."""
    return sorted(rows, key=lambda one: (one.case.model, one.case.server != OWN.name))


if __name__ == "__main__":
    PAGE.write_text(render(read_result(RESULT)), encoding="utf-8")

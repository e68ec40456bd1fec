"""Render the proof of elastic serving into docs/reference/serving-proof.md.

$ python benchmarks/render_serving.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from serving.bars import OWN, bars_of
from serving.device_pool import device_pool_lines
from serving.endurance import fault_lines, soak_lines
from serving.record import Case, FrontEnd, Goodput, Oracle, Overload, ServingProof, Simulation, read_result

Row = TypeVar("Row", Goodput, Overload, FrontEnd, Oracle, Simulation)
ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "serving-proof.json"
FAULTS, SOAK = (RESULT.with_name(f"serving-{part}.json") for part in ("faults", "soak"))
DEVICE_POOL = ROOT / "benchmarks" / "results" / "serving-device-pool.json"
PAGE = ROOT / "docs" / "reference" / "serving-proof.md"
INTRODUCTION = """\
# Rankine and other servers, the same engine behind each

Rendered by `python benchmarks/render_serving.py` from the result file of `benchmarks/serving_goodput.py`. Do not edit
it.

Every server runs as a process of its own on one core, the load generator on another, and takes requests over HTTP in
the form that it takes best: request features and item ids in, the best 50 out. Behind each is the native engine with
the same model in parts, items completed ahead, so that only the serving differs; before it is timed, a server must rank
as the engine does. *big* is DCN-v2 (big) in INT8 with random weights, *small* the fastest certified MovieLens-1M
variant.

Users and items are drawn by Zipf's law (exponent 1.05). Latency counts from the time at which a request was *due*;
refusals, failures and late answers are misses. A rate is sustained when p99 is within {slo_ms:g} ms and misses are at
most 1 %; it is searched by probes of 3 s on a geometric ladder, bisected by probes of 10 s to 4 % (to 12 % of a server
that cannot reach a third of Rankine's rate), and what was found is tried again for 20 s with other arrivals: it counts
where it held in two of three. *Bursts*: a two-state Markov process, five times the rate in a tenth of the time, 0.1 s
at a time. *Day*: 20 s long, a sine, and a flash crowd at three times that.
"""
_PLAIN = {"mlperf": "MLPerf's numbers of candidates"}


def render(result: ServingProof) -> str:
    """The page; parts that were not measured are left out or named at its end."""
    slo_ms = result.goodput[0].slo_ms if result.goodput else 50.0
    lines = [INTRODUCTION.format(slo_ms=slo_ms)]
    if not (result.goodput or result.overload or result.front_end or result.ladder):
        return f"{lines[0]}\nNo results are committed yet.\n"
    lines += (
        _bars(result)
        + _goodput(result)
        + _oracle(result)
        + _overload(result)
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
    table = [(bar.what, bar.wanted, bar.found, bar.verdict) for bar in found]
    return ["## Bars", "", *_table(("what", "bar", "found", ""), table, text_columns=4)]


def _goodput(result: ServingProof) -> list[str]:
    if not result.goodput:
        return []
    lines = ["## Goodput", ""]
    for traffic, rows in _by_traffic(result.goodput):
        own = {one.case.model: one.sustainable_rps for one in rows if one.case.server == OWN}
        head = ("server", "model", "sustained, requests/s", "Rankine to it", "p50 ms", "p99 ms", "first that failed")
        table = [
            (
                _title(result, one.case),
                one.case.model,
                _rate(one),
                _times(own.get(one.case.model), one.sustainable_rps),
                _number(one.p50_ms),
                _number(one.p99_ms),
                _number(one.failed_rps, 0),
            )
            for one in rows
        ]
        lines += [f"### {traffic}", "", *_table(head, table, text_columns=2)]
    return lines


def _oracle(result: ServingProof) -> list[str]:
    if not result.oracle:
        return []
    lines = [
        "## Beside an oracle",
        "",
        "What a simulated scheduler could sustain that knows the whole trace and leaves out the one in a hundred that",
        "helps most, requests that wait being joined for nothing: where only the engine costs time, and where what",
        "this server computes beside it for a request costs too.",
        "",
    ]
    head = (
        "server",
        "model",
        "traffic",
        "engine alone",
        "with this server",
        "sustained of that",
        "beside the engine, ms",
    )
    sustained = {one.case: one.sustainable_rps for one in result.goodput}
    table = []
    for one in _sorted(result.oracle):
        own = sustained.get(one.case)
        share = (
            "" if own is None else f"**{own / one.server_rps:.0%}** ({own / one.engine_rps:.0%} of the engine alone)"
        )
        rates = (_number(one.engine_rps, 0), _number(one.server_rps, 0))
        table.append(
            (_title(result, one.case), one.case.model, _traffic(one.case), *rates, share, f"{one.request_ms:.2f}")
        )
    return [*lines, *_table(head, table, text_columns=3)]


def _overload(result: ServingProof) -> list[str]:
    if not result.overload:
        return []
    lines = [
        "## Overload",
        "",
        "A multiple of what each server itself sustained. *Admitted in time*: of the requests that were not refused.",
        "",
    ]
    for traffic, rows in _by_traffic(result.overload):
        head = ("server", "model", "offered", "goodput of its best", "refused", "refusal p99 ms", "admitted in time")
        table = [
            (
                _title(result, one.case),
                one.case.model,
                f"{one.offered_rps:,.0f} ({one.factor:g}x)",
                f"**{one.goodput_share:.0%}**{_mark(one.generator_bound)}",
                f"{one.refused / one.requests:.0%}" if one.requests else "",
                _number(one.refusal_p99_ms),
                "" if one.admitted_in_time_share is None else f"{one.admitted_in_time_share:.1%}",
            )
            for one in rows
        ]
        lines += [f"### {traffic}", "", *_table(head, table, text_columns=2)]
    return lines


def _ladder(result: ServingProof) -> list[str]:
    lines = []
    for one in result.ladder:
        lines += [
            "## Quality that bends",
            "",
            f"{one.factor:g} times what {one.base} sustains ({one.base_rps:,.0f} requests/s),",
            f"with a floor of {one.floor:g}: {one.offered_rps:,.0f} requests/s. {one.in_time_share:.2%} were answered",
            f"in time, {one.shed} refused; p99 {_number(one.p99_ms)} ms. After the load fell, the best rung",
            f"answered again in {one.back_up_s:.1f} s.",
            "",
        ]
        table = [(f"{one.base} (what the rate is of)", f"{one.base_margin:g}", _number(one.base_request_ms, 2), "")]
        for rung in one.rungs:
            name = f"{rung.variant} on {rung.engine}"
            table.append((name, f"{rung.margin:g}", _number(rung.request_ms, 2), f"{rung.share:.0%}"))
        head = ("rung", "margin", "engine's ms a request", "share of the answers")
        lines += _table(head, table, text_columns=1)
    return lines


def _simulator(result: ServingProof) -> list[str]:
    if not result.simulator:
        return []
    head = ("model", "traffic", "sustained", "simulated", "at", "p50 ms", "simulated", "p99 ms", "simulated")
    table = []
    for one in _sorted(result.simulator):
        rates = (_number(one.real_rps, 0), _number(one.simulated_rps, 0))
        for point in one.points:
            real, simulated = (point.real_p50_ms, point.real_p99_ms), (point.simulated_p50_ms, point.simulated_p99_ms)
            times = [_number(value) for pair in zip(real, simulated, strict=True) for value in pair]
            table.append((one.case.model, _traffic(one.case), *rates, f"{point.share:.0%}", *times))
    told = [
        "The simulator gets the very requests that the server got, the engine's times as measured in the same run, and",
        "the processor time that the server spends on a request beside it. Nothing of it is fitted.",
    ]
    return ["## The simulator beside it", "", *told, "", *_table(head, table, text_columns=2)]


def _front_end(result: ServingProof) -> list[str]:
    if not result.front_end:
        return []
    head = ("server", "model", "client p50 ms", "engine p50 ms", "added ms", "client p99 ms")
    table = [
        (
            _title(result, one.case),
            one.case.model,
            _number(one.client_p50_ms, 2),
            _number(one.run_p50_ms, 2),
            f"**{one.added_ms:.2f}**",
            _number(one.client_p99_ms, 2),
        )
        for one in _sorted(result.front_end)
    ]
    told = "One client, 500 ids, one request after the other; *engine* is its call as the server recorded it."
    return ["## What the front end adds", "", told, "", *_table(head, table, text_columns=2)]


def _not_run(result: ServingProof) -> list[str]:
    lines = [f"* {result.titles.get(name, name)}: {why}." for name, why in sorted(result.missing.items())]
    cases = [one.case for one in result.goodput]
    for case in dict.fromkeys(case.model_copy(update={"server": OWN}) for case in cases):
        servers = {one.server for one in cases if one.model_copy(update={"server": OWN}) == case}
        lacking = [result.titles[name] for name in result.titles if name not in servers and name not in result.missing]
        if lacking:
            lines.append(f"* Goodput, {case.model}, {_traffic(case)}: {', '.join(lacking)}.")
    for one in result.goodput:
        if one.capped:
            where = f"{result.titles.get(one.case.server, one.case.server)}, {one.case.model}, {_traffic(one.case)}"
            lines.append(f"* {where}: no rate failed, or the generator was the bottleneck; the limit may lie higher.")
    return ["## What was not run, and what is not sure", "", *lines, ""] if lines else []


def _made_of(result: ServingProof) -> list[str]:
    lines = ["## Servers and settings", ""]
    latest = {one.case.server: one for one in (*result.front_end, *result.goodput)}
    for name, title in result.titles.items():
        versions = ", ".join(f"{package} {version}" for package, version in result.versions.get(name, {}).items())
        settings = ", ".join(f"{key} {value}" for key, value in latest[name].settings.items()) if name in latest else ""
        lines.append(f"* {title}: {'; '.join(part for part in (versions, settings) if part) or 'as installed'}")
    one = next(iter((*result.goodput, *result.front_end, *result.overload, *result.ladder)))
    where = f"Taken on {one.created:%Y-%m-%d}, {one.environment.get('cpu', 'unknown processor')}."
    return [*lines, "", where, ""]


def _by_traffic(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {}
    for one in _sorted(rows):
        found.setdefault(_traffic(one.case), []).append(one)
    return list(found.items())


def _sorted(rows: Iterable[Row]) -> list[Row]:
    """By model, Rankine first, the others in the order in which they were measured."""
    return sorted(rows, key=lambda one: (one.case.model, one.case.server != OWN))


def _traffic(case: Case) -> str:
    short = f", {case.short_share:.0%} with a short deadline" if case.short_share else ""
    return f"{case.traffic.capitalize()}, {_PLAIN.get(case.candidates, case.candidates)}{short}"


def _title(result: ServingProof, case: Case) -> str:
    title = result.titles.get(case.server, case.server)
    return f"**{title}**" if case.server == OWN else title


def _rate(one: Goodput) -> str:
    if one.sustainable_rps is None:
        return "none"
    few = "" if one.supports_p99 else ", too few for a p99"
    return f"**{one.sustainable_rps:,.0f}** ({one.confirmed[0]} of {one.confirmed[1]}{few}){_mark(one.capped)}"


def _mark(unsure: bool) -> str:
    return " or more" if unsure else ""


def _times(own: float | None, other: float | None) -> str:
    return "" if own is None or other is None else f"{own / other:.2f}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    rule = [*["---"] * text_columns, *["---:"] * (len(head) - text_columns)]
    return [*("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)), ""]


if __name__ == "__main__":
    PAGE.write_text(render(read_result(RESULT)), encoding="utf-8")

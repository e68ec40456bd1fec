"""The sections of the page about what was measured in rounds."""

from __future__ import annotations

from collections.abc import Sequence

from serving.effort import Effort
from serving.peers.own import OWN
from serving.record import Contest, Round, ServingProof
from serving.standing import Spread, Standing, by_contest, control_drift, oracle_shares, ratios, standings

_PLAIN = {"mlperf": "MLPerf's numbers of candidates"}


def goodput_lines(result: ServingProof) -> list[str]:
    """What each server sustained, by contest."""
    if not result.rounds:
        return []
    lines = [
        "## Goodput",
        "",
        "The speed of a host drifts, so servers are compared in rounds: all are up, one is loaded at a time, and in",
        "each round each is searched once, near where it was the last time, under the same arrivals, in an order that",
        "is turned around every time. A rate is told as median and range over the rounds; *Rankine to it* is of each",
        "round. The control is the engine's own time, alone on the server's core, before and after each turn.",
        "",
    ]
    for rounds in by_contest(result):
        contest = rounds[0].contest
        head = ("server", "sustained, requests/s", "Rankine to it", "p50 ms", "p99 ms", "first that failed")
        rows = [_goodput_row(result, contest, name, one) for name, one in standings(result, contest).items()]
        lines += [f"### {contest.model}: {traffic_of(contest)}", "", _how(rounds), ""]
        lines += table(head, rows, text_columns=1)
    return lines


def _how(rounds: Sequence[Round]) -> str:
    effort: Effort = rounds[-1].effort
    within, over_all = control_drift(rounds)
    seconds = effort.seconds_of(rounds[0].contest.traffic)
    return (
        f"Rounds: {len(rounds)}, with probes of {seconds:g} s, searched to {effort.precision:.0%}. "
        f"The control moved by {within:.0%} within a round at most, by {over_all:.0%} over all rounds."
    )


def _goodput_row(result: ServingProof, contest: Contest, server: str, one: Standing) -> tuple[str, ...]:
    over = ratios(result, contest, OWN.name, server) if server != OWN.name else None
    few = "" if one.supports_p99 else ", too few requests for a p99"
    return (
        title(result, server),
        f"{one.rates.text(',.0f')}{' or more' if one.capped else ''}{few}",
        over.text(".2f") if over else "",
        number(one.median_of(lambda turn: turn.p50_ms)),
        number(one.median_of(lambda turn: turn.p99_ms)),
        number(one.median_of(lambda turn: turn.failed_rps), 0),
    )


def oracle_lines(result: ServingProof) -> list[str]:
    """What Rankine sustained of what an oracle could in the same round."""
    rows = []
    for rounds in by_contest(result):
        contest = rounds[0].contest
        for name, one in standings(result, contest).items():
            with_server = oracle_shares(one.turns, lambda oracle: oracle.server_rps)
            engine_alone = oracle_shares(one.turns, lambda oracle: oracle.engine_rps)
            if with_server is None or engine_alone is None:
                continue
            oracles = [turn.oracle for turn in one.turns if turn.oracle is not None]
            rates = (Spread(tuple(two.engine_rps for two in oracles)), Spread(tuple(two.server_rps for two in oracles)))
            beside_ms = Spread(tuple(two.request_ms for two in oracles)).median
            cells = (*(number(rate.median, 0) for rate in rates), with_server.text(".0%"), engine_alone.text(".0%"))
            rows.append((title(result, name), contest.model, traffic_of(contest), *cells, f"{beside_ms:.2f}"))
    if not rows:
        return []
    head = ("server", "model", "traffic", "engine alone", "with this server", "sustained of that")
    return [
        "## Beside an oracle",
        "",
        "What a simulated scheduler could sustain that knows the whole trace and leaves out the one in a hundred that",
        "helps most, requests that wait being joined for nothing: where only the engine costs time, and where what",
        "this server computes beside it for a request costs too. In each round, of the very arrivals of its probes.",
        "",
        *table((*head, "of the engine alone", "beside the engine, ms"), rows, text_columns=3),
    ]


def overload_lines(result: ServingProof) -> list[str]:
    """What is left of a server's goodput above its rate."""
    lines: list[str] = []
    for rounds in by_contest(result):
        contest = rounds[0].contest
        found = {name: one for name, one in standings(result, contest).items() if one.overloads}
        if found:
            head = (
                "server",
                "offered",
                "goodput of its best",
                "refused",
                "refusal p99 ms",
                "admitted in time",
                "rounds",
            )
            rows = [_overload_row(result, name, one) for name, one in found.items()]
            lines += [f"### {contest.model}: {traffic_of(contest)}", "", *table(head, rows, text_columns=1)]
    if not lines:
        return []
    told = [
        "A multiple of what each server itself had sustained the moment before. *Admitted in time*: of the requests",
        "that were not refused. Medians of the rounds.",
    ]
    return ["## Overload", "", *told, "", *lines]


def _overload_row(result: ServingProof, server: str, one: Standing) -> tuple[str, ...]:
    found = one.overloads

    def median(values: Sequence[float | None]) -> float | None:
        there = tuple(value for value in values if value is not None)
        return Spread(there).median if there else None

    refused = median([over.refused / over.requests if over.requests else None for over in found])
    in_time = median([over.admitted_in_time_share for over in found])
    unsure = " or more" if any(over.generator_bound for over in found) else ""
    return (
        title(result, server),
        f"{Spread(tuple(over.offered_rps for over in found)).median:,.0f} ({found[0].factor:g}x)",
        f"{Spread(tuple(over.goodput_share for over in found)).text('.0%')}{unsure}",
        "" if refused is None else f"{refused:.0%}",
        number(median([over.refusal_p99_ms for over in found])),
        "" if in_time is None else f"{in_time:.1%}",
        str(len(found)),
    )


def traffic_of(contest: Contest) -> str:
    """In words."""
    short = f", {contest.short_share:.0%} with a short deadline" if contest.short_share else ""
    return f"{contest.traffic.capitalize()}, {_PLAIN.get(contest.candidates, contest.candidates)}{short}"


def title(result: ServingProof, server: str) -> str:
    """Of a server; Rankine's stands out."""
    told = result.titles.get(server, server)
    return f"**{told}**" if server == OWN.name else told


def number(value: float | None, digits: int = 1) -> str:
    """Nothing where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    """A table whose last columns are numbers."""
    rule = [*["---"] * text_columns, *["---:"] * (len(head) - text_columns)]
    return [*("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)), ""]

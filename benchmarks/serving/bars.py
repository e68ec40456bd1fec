"""The bars of the serving proof: what was promised, what was found, and whether that is enough.

What was measured in rounds is judged by the median of what each round says by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from serving.peers.own import OWN
from serving.record import Contest, ServingProof, Simulation
from serving.standing import Spread, Standing, contests, oracle_shares, ratios, standings

ORACLE_SHARE = 0.95
TIMES = {"triton": 1.5, "fastapi": 2.0}
"""That the small model is to sustain over these servers."""
OVERLOAD_SHARE = {"big": 0.9, "small": 0.75}
REFUSAL_MS, ADMITTED_SHARE, ADDED_MS = 5.0, 0.99, 0.6
RATE_ERROR, P99_ERROR = 0.10, 0.20
LADDER_SHARE, BACK_UP_S = 0.99, 5.0


class Bar(NamedTuple):
    """One line; ``met`` is None where it cannot be said."""

    what: str
    wanted: str
    found: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return "not measured" if self.met is None else "met" if self.met else "**missed**"


def bars_of(result: ServingProof) -> list[Bar]:
    """All that can be told of a result, in the order of the proof."""
    parts: Sequence[Callable[[ServingProof], Iterator[Bar]]] = (
        _best, _of_oracle, _times_others, _overload, _added, _simulator, _ladder
    )  # fmt: skip
    return [bar for part in parts for bar in part(result)]


def _own(result: ServingProof) -> Iterator[tuple[Contest, Standing]]:
    """Rankine in each contest that it was in."""
    for contest in contests(result):
        found = standings(result, contest).get(OWN.name)
        if found is not None:
            yield contest, found


def _over_peers(result: ServingProof, contest: Contest) -> dict[str, Spread]:
    """What Rankine sustained over what each other server did, within rounds."""
    peers = [name for name in standings(result, contest) if name != OWN.name]
    found = {name: ratios(result, contest, OWN.name, name) for name in peers}
    return {name: spread for name, spread in found.items() if spread is not None}


def _best(result: ServingProof) -> Iterator[Bar]:
    for contest, own in _own(result):
        over = _over_peers(result, contest)
        if not over:
            continue
        name = min(over, key=lambda server: over[server].median)
        found = f"{own.sustained_rps:,.0f}, over {result.titles.get(name, name)} {over[name].text('.2f')} times"
        what = f"goodput at SLO, {contest.model}, {contest.traffic}"
        yield Bar(what, "most of all servers", found, over[name].median > 1)


def _of_oracle(result: ServingProof) -> Iterator[Bar]:
    for contest, own in _own(result):
        share = oracle_shares(own.turns, lambda one: one.server_rps)
        free = oracle_shares(own.turns, lambda one: one.engine_rps)
        if contest.model == "big" and contest.traffic != "day" and share is not None and free is not None:
            found = f"{share.text('.0%')}; {free.median:.0%} of one whose server costs nothing"
            what = f"of the oracle, big, {contest.traffic}"
            yield Bar(what, f">= {ORACLE_SHARE:.0%}", found, share.median >= ORACLE_SHARE)


def _times_others(result: ServingProof) -> Iterator[Bar]:
    for contest, _ in _own(result):
        over = _over_peers(result, contest) if contest.model == "small" else {}
        for name, wanted in TIMES.items():
            if name in over:
                what = f"over {result.titles.get(name, name)}, small, {contest.traffic}"
                yield Bar(what, f">= {wanted:g} times", f"{over[name].text('.2f')} times", over[name].median >= wanted)


def _overload(result: ServingProof) -> Iterator[Bar]:
    for contest, own in _own(result):
        if not own.overloads:
            continue
        where = f"{contest.model}, {contest.traffic}"
        wanted = OVERLOAD_SHARE[contest.model]
        share = Spread(tuple(one.goodput_share for one in own.overloads))
        what = f"goodput at {own.overloads[0].factor:g} times the rate, {where}"
        yield Bar(what, f">= {wanted:.0%} of its peak", share.text(".0%"), share.median >= wanted)
        yield from _refusals(own, where)


def _refusals(own: Standing, where: str) -> Iterator[Bar]:
    late_ms = tuple(one.refusal_p99_ms for one in own.overloads if one.refusal_p99_ms is not None)
    in_time = tuple(one.admitted_in_time_share for one in own.overloads if one.admitted_in_time_share is not None)
    if late_ms:
        p99 = Spread(late_ms)
        yield Bar(
            f"refusals there, {where}", f"p99 <= {REFUSAL_MS:g} ms", f"{p99.text('.1f')} ms", p99.median <= REFUSAL_MS
        )
    if in_time:
        share = Spread(in_time)
        met = share.median >= ADMITTED_SHARE
        yield Bar(f"admitted there and in time, {where}", f">= {ADMITTED_SHARE:.0%}", share.text(".2%"), met)


def _added(result: ServingProof) -> Iterator[Bar]:
    for one in result.front_end:
        if one.case.server == OWN.name:
            what = f"added latency, one client, 500 ids, {one.case.model}"
            yield Bar(what, f"<= {ADDED_MS:g} ms", f"{one.added_ms:.2f} ms", one.added_ms <= ADDED_MS)


def _simulator(result: ServingProof) -> Iterator[Bar]:
    for one in result.simulator:
        where = f"{one.case.model}, {one.case.traffic}"
        error = one.simulated_rps / one.real_rps - 1
        found = f"{error:+.0%}: {one.simulated_rps:,.0f} for {one.real_rps:,.0f}"
        yield Bar(f"simulator's highest rate, {where}", f"within {RATE_ERROR:.0%}", found, abs(error) <= RATE_ERROR)
        yield from _points(one, where)


def _points(one: Simulation, where: str) -> Iterator[Bar]:
    for point in one.points:
        error = point.simulated_p99_ms / point.real_p99_ms - 1
        found = f"{error:+.0%}: {point.simulated_p99_ms:.1f} ms for {point.real_p99_ms:.1f} ms"
        what = f"simulator's p99 at {point.share:.0%} of it, {where}"
        yield Bar(what, f"within {P99_ERROR:.0%}", found, abs(error) <= P99_ERROR)


def _ladder(result: ServingProof) -> Iterator[Bar]:
    for one in result.ladder:
        what = f"ladder of *{one.case.model}* at {one.factor:g} times the rate of {one.base}, floor {one.floor:g}"
        found = f"{one.in_time_share:.2%} in time, {one.shed} shed of {one.requests:,}"
        met = one.in_time_share >= LADDER_SHARE and not one.shed
        yield Bar(what, f">= {LADDER_SHARE:.0%} in time, none shed", found, met)
        back = f"{one.back_up_s:.1f} s"
        yield Bar(
            f"ladder of *{one.case.model}* back up after the load falls",
            f"<= {BACK_UP_S:g} s",
            back,
            one.back_up_s <= BACK_UP_S,
        )

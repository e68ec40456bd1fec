"""The bars of the serving proof: what was promised, what was found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from serving.record import Goodput, LadderRun, Overload, ServingProof, Simulation

OWN = "rankine"
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


def _own(result: ServingProof) -> list[Goodput]:
    return [one for one in result.goodput if one.case.server == OWN]


def _peers(result: ServingProof, own: Goodput) -> dict[str, float]:
    """What others sustained in the same case; 0 where no rate held."""
    found = {}
    for one in result.goodput:
        if one.case.server != OWN and one.case.model_copy(update={"server": OWN}) == own.case:
            found[one.case.server] = one.sustainable_rps or 0.0
    return found


def _best(result: ServingProof) -> Iterator[Bar]:
    for one in _own(result):
        peers = _peers(result, one)
        if not peers:
            continue
        name = max(peers, key=lambda server: peers[server])
        rate_rps = one.sustainable_rps or 0.0
        found = f"{rate_rps:,.0f}, next {result.titles.get(name, name)} with {peers[name]:,.0f}"
        what = f"goodput at SLO, {one.case.model}, {one.case.traffic}"
        yield Bar(what, "most of all servers", found, rate_rps > peers[name])


def _of_oracle(result: ServingProof) -> Iterator[Bar]:
    sustained = {one.case: one.sustainable_rps for one in _own(result)}
    for one in result.oracle:
        rate_rps = sustained.get(one.case)
        if one.case.model == "big" and one.case.traffic != "day" and rate_rps is not None:
            share = rate_rps / one.server_rps
            found = f"{share:.0%} ({rate_rps / one.engine_rps:.0%} of one whose server costs nothing)"
            yield Bar(f"of the oracle, big, {one.case.traffic}", f">= {ORACLE_SHARE:.0%}", found, share >= ORACLE_SHARE)


def _times_others(result: ServingProof) -> Iterator[Bar]:
    for one in _own(result):
        if one.case.model != "small":
            continue
        peers = _peers(result, one)
        for name, wanted in TIMES.items():
            if name in peers:
                times = (one.sustainable_rps or 0.0) / peers[name] if peers[name] else float("inf")
                what = f"over {result.titles.get(name, name)}, small, {one.case.traffic}"
                yield Bar(what, f">= {wanted:g} times", f"{times:.2f} times", times >= wanted)


def _overload(result: ServingProof) -> Iterator[Bar]:
    for one in result.overload:
        if one.case.server == OWN:
            where = f"{one.case.model}, {one.case.traffic}"
            wanted = OVERLOAD_SHARE[one.case.model]
            what = f"goodput at {one.factor:g} times the rate, {where}"
            yield Bar(what, f">= {wanted:.0%} of its peak", f"{one.goodput_share:.0%}", one.goodput_share >= wanted)
            yield from _refusals(one, where)


def _refusals(one: Overload, where: str) -> Iterator[Bar]:
    if one.refusal_p99_ms is not None:
        found, met = f"{one.refusal_p99_ms:.1f} ms", one.refusal_p99_ms <= REFUSAL_MS
        yield Bar(f"refusals there, {where}", f"p99 <= {REFUSAL_MS:g} ms", found, met)
    if one.admitted_in_time_share is not None:
        found, met = f"{one.admitted_in_time_share:.2%}", one.admitted_in_time_share >= ADMITTED_SHARE
        yield Bar(f"admitted there and in time, {where}", f">= {ADMITTED_SHARE:.0%}", found, met)


def _added(result: ServingProof) -> Iterator[Bar]:
    for one in result.front_end:
        if one.case.server == OWN:
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
        what = f"ladder at {one.factor:g} times the rate of {one.base}, floor {one.floor:g}"
        found = f"{one.in_time_share:.2%} in time, {one.shed} shed of {one.requests:,}"
        met = one.in_time_share >= LADDER_SHARE and not one.shed
        yield Bar(what, f">= {LADDER_SHARE:.0%} in time, none shed", found, met)
        back = f"{one.back_up_s:.1f} s"
        yield Bar("ladder back up after the load falls", f"<= {BACK_UP_S:g} s", back, one.back_up_s <= BACK_UP_S)
        yield Bar("cost between the rungs", "stated", cost_gap(one), True)


def cost_gap(one: LadderRun) -> str:
    """What a request costs on each rung, engine alone."""
    rungs = [f"{rung.variant} {rung.request_ms:.2f} ms" for rung in one.rungs]
    return ", ".join([f"{one.base} {one.base_request_ms:.2f} ms", *rungs])

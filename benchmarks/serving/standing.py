"""How servers stand after the rounds of a contest: medians, their spread, and ratios within rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rankine.observation.load.config import P99_QUERIES
from serving.record import Contest, Oracle, Overload, Round, ServingProof, Turn


@dataclass(frozen=True)
class Spread:
    """What several rounds found of one thing; at least one."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of two in the middle their mean."""
        return float(np.median(self.values))

    def text(self, form: str) -> str:
        """Median and range, each as a format like ``.2f`` shows it."""
        low, high = min(self.values), max(self.values)
        return f"**{self.median:{form}}** ({low:{form}} to {high:{form}})"


@dataclass(frozen=True)
class Standing:
    """One server's turns, of the rounds that it was in."""

    turns: tuple[Turn, ...]

    @property
    def rates(self) -> Spread:
        """What it sustained, 0 where no rate held."""
        return Spread(tuple(one.sustained_rps or 0.0 for one in self.turns))

    @property
    def sustained_rps(self) -> float:
        """The median of the rounds."""
        return self.rates.median

    @property
    def capped(self) -> bool:
        """Whether half of the rounds or more found no rate that the server failed at."""
        return 2 * sum(one.capped for one in self.turns) >= len(self.turns)

    @property
    def supports_p99(self) -> bool:
        """Whether rounds together have the requests that a p99 needs."""
        return sum(one.requests for one in self.turns) >= P99_QUERIES

    def median_of(self, value: Callable[[Turn], float | None]) -> float | None:
        """Over the turns that have one."""
        found = [one for one in map(value, self.turns) if one is not None]
        return float(np.median(found)) if found else None

    @property
    def overloads(self) -> list[Overload]:
        """Of the turns that had one."""
        return [one.overload for one in self.turns if one.overload is not None]


def contests(result: ServingProof) -> list[Contest]:
    """Those that were held, in the order in which they began."""
    return [rounds[0].contest for rounds in by_contest(result)]


def by_contest(result: ServingProof) -> list[list[Round]]:
    """Rounds of the same contest together."""
    found: list[list[Round]] = []
    for one in result.rounds:
        known = next((rounds for rounds in found if rounds[0].contest == one.contest), None)
        if known is None:
            found.append([one])
        else:
            known.append(one)
    return found


def standings(result: ServingProof, contest: Contest) -> dict[str, Standing]:
    """By server."""
    turns: dict[str, list[Turn]] = {}
    for one in result.rounds_of(contest):
        for server, turn in one.turns.items():
            turns.setdefault(server, []).append(turn)
    return {server: Standing(tuple(found)) for server, found in turns.items()}


def ratios(result: ServingProof, contest: Contest, server: str, other: str) -> Spread | None:
    """What ``server`` sustained over what ``other`` did, in each round that has both; None where none has.

    Infinite where the other sustained nothing.
    """
    found = []
    for one in result.rounds_of(contest):
        if server in one.turns and other in one.turns:
            above, below = one.turns[server].sustained_rps or 0.0, one.turns[other].sustained_rps or 0.0
            found.append(above / below if below else float("inf"))
    return Spread(tuple(found)) if found else None


def oracle_shares(turns: Sequence[Turn], rate: Callable[[Oracle], float]) -> Spread | None:
    """What a server sustained of what its oracle could in the same round; None where there was no oracle."""
    found = [(one.sustained_rps or 0.0) / rate(one.oracle) for one in turns if one.oracle is not None]
    return Spread(tuple(found)) if found else None


def control_drift(rounds: Sequence[Round]) -> tuple[float, float]:
    """By how much the engine's own time differed: the most within a round, and over all; as shares of the least."""
    times = [[time for turn in one.turns.values() for time in turn.engine_ms] for one in rounds]
    everything = [time for found in times for time in found]
    within = max(max(found) / min(found) - 1 for found in times)
    return within, max(everything) / min(everything) - 1

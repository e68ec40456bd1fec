"""The ladder: variants certified at increasing margins, each the cheapest at its own, with what they cost.

Which variant is tested at which margin, and in which order, is fixed on validation rows (:func:`plan_tests`); the test
rows then only say yes or no (:func:`rungs_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import AwareDatetime, Field

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.metric_tests import Verdict
from rankine.certification.multiplicity import Outcome
from rankine.certification.plan import Pair, quality_certificates, quality_file, task_certificates
from rankine.config import Frozen
from rankine.models.variant import BASELINE

__all__ = [
    "LADDER_FILE",
    "MARGINS",
    "Cost",
    "Ladder",
    "LadderStep",
    "PlannedTest",
    "cheapest_first",
    "ladder_steps",
    "plan_tests",
    "read_ladder",
    "rungs_of",
    "shares",
]

LADDER_FILE = "ladder.json"
MARGINS = (0.0005, 0.001, 0.002, 0.005)
_LIKELY, _POSSIBLE = 0.0065, 0.05
"""Largest p-values on validation rows: if the truth is what validation rows say, a test on as many rows then passes
with a chance of 80 % and of one half."""
_ALIKE = 1.05
"""Medians of calls that are closer are alike: timing varies by as much from run to run."""


class Cost(Frozen):
    """A variant on an engine, and what it costs.

    Attributes:
        p50_ms: median milliseconds of a call by number of rows (``"1"``, ``"64"``, ``"512"``), one thread, measured
            beside the baseline in interleaved rounds.
        size_bytes: of tables and graph.
    """

    variant: str
    engine: str
    p50_ms: Mapping[str, float]
    macs_per_row: int
    size_bytes: int


class LadderStep(Cost):
    """A variant that was tested, at the smallest margin that it passed; at the largest where it passed at none.

    Attributes:
        margin: largest loss of AUC; the other metrics' go with it.
        reason: of the verdict, as the certificate has it; the metric that decides need not be AUC.
        delta, ci_low, ci_high: change of AUC on the test rows and its one-sided 95 % bounds, of the task that decides.
        certificates: their files in the artifact, one a task.
        tests: what every test of it found, at this margin and others, in their order; empty where it is the only test
            on the test rows, and in ladders of before they were recorded.
    """

    margin: float = Field(gt=0)
    verdict: Verdict
    reason: str
    delta: float
    ci_low: float
    ci_high: float
    certificates: tuple[str, ...]
    tests: tuple[Outcome, ...] = ()


class Ladder(Frozen):
    """What an artifact offers, the best quality first.

    Attributes:
        baseline: what speed is compared with, in PyTorch eager where there is a PyTorch model.
        rungs: every next one has a larger margin and costs less.
        others: tested and not on the ladder: passed at no margin, or no cheaper than a rung of its margin or a
            smaller one.
    """

    schema_version: Literal[1] = 1
    baseline: Cost
    rungs: tuple[LadderStep, ...]
    others: tuple[LadderStep, ...] = ()
    environment: Mapping[str, str | int | float] = {}
    created: AwareDatetime

    def at(self, margin: float) -> LadderStep | None:
        """The cheapest rung that may be served where this loss is accepted."""
        within = [rung for rung in self.rungs if rung.margin <= margin]
        return within[-1] if within else None


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A variant and the margin at which it is to be tested; ``p_value`` on validation rows."""

    variant: str
    margin: float
    p_value: float


def plan_tests(
    p_values: Mapping[tuple[str, float], float], cheapest_first: Sequence[str], margin: float
) -> tuple[PlannedTest, ...]:
    """Which variants are tested at which margins, in the order of the tests: the one most likely to pass first.

    For each margin the cheapest variant is taken that is likely to pass there, if it is cheaper than those of smaller
    margins; then, where a cheaper one is possible, that one too. At the margin that was asked for, the likeliest
    variant is tested where none is possible. Each is tested at all larger margins too, so that one that does not pass
    at its own may still be a rung further down. A fixed sequence tests each at the full level and stops at the first
    that does not pass, so what is less likely comes last, where it costs the others nothing.

    Args:
        p_values: on validation rows, by variant and margin.
        cheapest_first: variants by cost.
        margin: the one that was asked for.
    """
    chosen: dict[str, PlannedTest] = {}
    for level in (_LIKELY, _POSSIBLE):
        cheaper = list(cheapest_first)
        for step in sorted({at for _, at in p_values}):
            found = next((name for name in cheaper if p_values[name, step] <= level), None)
            if found is not None:
                if found not in chosen or step < chosen[found].margin:
                    chosen[found] = PlannedTest(found, step, p_values[found, step])
                cheaper = cheaper[: cheaper.index(found)]
    if not any(test.margin <= margin for test in chosen.values()):
        likeliest = min(cheapest_first, key=lambda name: p_values[name, margin])
        chosen[likeliest] = PlannedTest(likeliest, margin, p_values[likeliest, margin])
    tests = [
        PlannedTest(test.variant, at, p_value)
        for test in chosen.values()
        for (variant, at), p_value in p_values.items()
        if variant == test.variant and at >= test.margin
    ]
    # A larger margin of a variant first, also where p-values cannot tell them apart or disagree.
    return tuple(sorted(tests, key=lambda test: (_largest_within(test, p_values), -test.margin, test.variant)))


def _largest_within(test: PlannedTest, p_values: Mapping[tuple[str, float], float]) -> float:
    """The largest p-value of a variant at this margin or larger ones: it does not fall as the margin gets smaller."""
    return max(p for (variant, at), p in p_values.items() if variant == test.variant and at >= test.margin)


def rungs_of(
    tested: Iterable[LadderStep], cheapest_first: Sequence[str]
) -> tuple[tuple[LadderStep, ...], tuple[LadderStep, ...]]:
    """The rungs, and what is none: by increasing margin, those that passed and are cheaper than all before.

    Args:
        cheapest_first: variants by cost.
    """
    rungs: list[LadderStep] = []
    others: list[LadderStep] = []
    rank = {name: place for place, name in enumerate(cheapest_first)}
    for each in sorted(tested, key=lambda each: (each.margin, rank[each.variant])):
        cheaper = not rungs or rank[each.variant] < rank[rungs[-1].variant]
        (rungs if each.verdict == "pass" and cheaper else others).append(each)
    return tuple(rungs), tuple(others)


def cheapest_first(costs: Sequence[Cost]) -> list[str]:
    """Variants by measured time at most rows; of those that timing cannot tell apart, the one of fewest bytes first."""
    left, order = sorted(costs, key=_most_rows_ms), list[str]()
    while left:
        alike = [cost for cost in left if _most_rows_ms(cost) <= _ALIKE * _most_rows_ms(left[0])]
        chosen = min(alike, key=lambda cost: cost.size_bytes)
        left.remove(chosen)
        order.append(chosen.variant)
    return order


def ladder_steps(artifact: Artifact, costs: Mapping[Pair, Cost]) -> list[LadderStep]:
    """Every compressed pair with a quality certificate, passed or not."""
    deciding = quality_certificates(artifact)
    return [
        _step(costs[pair], deciding[pair], tuple(quality_file(*pair, task) for task in by_task))
        for pair, by_task in task_certificates(artifact).items()
        if pair[0] != BASELINE and pair in costs
    ]


def shares(ladder: Ladder, cost: Cost) -> dict[str, float]:
    """Latency at 512 rows, multiply-adds and bytes as shares of the baseline's, all measured."""
    baseline = ladder.baseline
    return {
        "latency": _most_rows_ms(cost) / _most_rows_ms(baseline),
        "macs": cost.macs_per_row / max(1, baseline.macs_per_row),
        "bytes": cost.size_bytes / max(1, baseline.size_bytes),
    }


def read_ladder(artifact: Artifact) -> Ladder | None:
    """The ladder of an artifact, if it has one."""
    return artifact.read_json(LADDER_FILE, Ladder) if LADDER_FILE in artifact else None


def _most_rows_ms(cost: Cost) -> float:
    return cost.p50_ms[max(cost.p50_ms, key=int)]


def _step(cost: Cost, certificate: QualityCertificate, files: tuple[str, ...]) -> LadderStep:
    outcomes = certificate.multiplicity.outcomes if certificate.multiplicity else ()
    return LadderStep(
        **dict(cost),
        margin=certificate.margin,
        verdict=certificate.verdict,
        reason=certificate.reason,
        delta=certificate.delta,
        ci_low=certificate.ci_low,
        ci_high=certificate.ci_high,
        certificates=files,
        tests=tuple(each for each in outcomes if (each.variant, each.engine) == (cost.variant, cost.engine)),
    )

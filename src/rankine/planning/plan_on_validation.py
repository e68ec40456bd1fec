"""Which variants of a search are tested on the test rows, at which margin and in which order: by validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rankine.certification.margins import Margins
from rankine.certification.measurement import measure_quality
from rankine.compression.search import Found
from rankine.events import Emit, Note, step
from rankine.models.network import NetworkScorer
from rankine.planning.judge import ValidationJudge
from rankine.planning.ladder import MARGINS, PlannedTest, plan_tests

__all__ = ["plan_on_validation"]

_RESAMPLES = 1000


def plan_on_validation(
    named: Mapping[str, Found], judge: ValidationJudge, margin: float, emit: Emit
) -> tuple[PlannedTest, ...]:
    """What is to be tested, see :func:`rankine.planning.ladder.plan_tests`; the same metrics as a certificate has.

    Args:
        named: variants by name.
        margin: the one that was asked for, beside those of the ladder.
    """
    margins = sorted({*MARGINS, margin})
    p_values: dict[tuple[str, float], float] = {}
    with step(emit, "plan tests on validation rows", total=len(named), unit="variants") as advance:
        for number, (name, each) in enumerate(named.items()):
            logits = NetworkScorer(each.network).logits(judge.batch)
            p_values |= {(name, at): p for at, p in zip(margins, _p_values(judge, name, logits, margins), strict=True)}
            advance(number + 1, name)
    tests = plan_tests(p_values, sorted(named, key=lambda name: named[name].cost), margin)
    for test in tests:
        emit(Note("ladder", f"{test.variant} is to be tested at {test.margin:g}", {"validation p": test.p_value}))
    return tests


def _p_values(judge: ValidationJudge, name: str, logits: np.ndarray, margins: Sequence[float]) -> list[float]:
    """At each margin, the largest p-value of the tasks."""
    measured = [
        measure_quality(
            judge.labels[:, column],
            judge.baseline_logits[:, column],
            logits[:, column],
            clusters=judge.clusters,
            groups=judge.clusters.get("user"),
            link=task.link,
            resamples=_RESAMPLES,
        )
        for column, task in enumerate(judge.tasks)
    ]
    return [
        max(
            task.certificate(Margins.of(margin), variant=name, engine="onnxruntime", provenance={}).p_value
            for task in measured
        )
        for margin in margins
    ]

"""Which variants of a search are tested on the test rows, at which margin and in which order: by validation rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.certification.margins import Margins
from rankine.certification.quality import certify_quality
from rankine.compression.search import Found
from rankine.events import Emit, Note, step
from rankine.models.network import NetworkScorer
from rankine.planning.judge import ValidationJudge
from rankine.planning.ladder import MARGINS, Trial, plan_tests

__all__ = ["plan_on_validation"]

_RESAMPLES = 1000


def plan_on_validation(
    named: Mapping[str, Found], judge: ValidationJudge, margin: float, emit: Emit
) -> tuple[Trial, ...]:
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
            p_values |= {(name, at): _p_value(judge, name, logits, at) for at in margins}
            advance(number + 1, name)
    tests = plan_tests(p_values, sorted(named, key=lambda name: named[name].cost), margin)
    for trial in tests:
        emit(Note("ladder", f"{trial.variant} is to be tested at {trial.margin:g}", {"validation p": trial.p_value}))
    return tests


def _p_value(judge: ValidationJudge, name: str, logits: np.ndarray, margin: float) -> float:
    """The largest over the tasks."""
    return max(
        certify_quality(
            judge.labels[:, column],
            judge.baseline_logits[:, column],
            logits[:, column],
            margin=Margins.of(margin),
            clusters=judge.clusters,
            groups=judge.clusters.get("user"),
            variant=name,
            engine="onnxruntime",
            task=task.name,
            link=task.link,
            provenance={},
            resamples=_RESAMPLES,
        ).p_value
        for column, task in enumerate(judge.tasks)
    )

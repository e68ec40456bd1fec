"""The sentence that gives a verdict's reason."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rankine.certification.metric_tests import MetricTest, Verdict
from rankine.certification.slices import SliceTest
from rankine.stats import minimum_detectable

__all__ = ["TITLES", "reason_of"]

TITLES = {
    "auc": "AUC",
    "normalized_entropy": "normalized entropy",
    "calibration": "calibration",
    "group_auc": "group AUC",
    "ndcg_at_10": "NDCG@10",
}


def reason_of(
    verdict: Verdict, tests: Sequence[MetricTest], shortfalls: Sequence[str], harmed: Sequence[SliceTest] = ()
) -> str:
    """One sentence, on the metric that decides; ``harmed`` are the slices that turn the verdict into a fail."""
    if shortfalls:
        return f"Too little data for a verdict: {', '.join(shortfalls)}."
    judged = [test for test in tests if test.judged]
    if verdict == "fail" and harmed and not any(test.verdict == "fail" for test in judged):
        names = ", ".join(test.name for test in harmed)
        return f"The variant harms {names}: AUC falls there by more than the margin of {harmed[0].margin:g}."
    worst = [test for test in judged if test.verdict == verdict]
    if verdict == "pass":
        others = f"; so do {', '.join(TITLES[test.name] for test in worst[1:])} with theirs" if worst[1:] else ""
        return f"With 95 % confidence {_change(worst[0])}, which is within the margin of {worst[0].margin:g}{others}."
    if verdict == "fail":
        return f"With 95 % confidence {_change(worst[0])}, which is over the margin of {worst[0].margin:g}."
    return " ".join(_undecided(test) for test in worst)


def _change(test: MetricTest) -> str:
    """What is known of the change with confidence, e.g. ``AUC falls by less than 0.00012``."""
    if test.verdict == "fail":
        return f"{_loss(test)} more than {_below(-test.ci_high)}"
    if test.ci_low >= 0:
        return f"{TITLES[test.name]} does not get worse"
    return f"{_loss(test)} less than {_above(-test.ci_low)}"


def _loss(test: MetricTest) -> str:
    if test.name == "normalized_entropy":
        return "normalized entropy grows (relatively) by"
    if test.name == "calibration":
        return "the error of calibration grows by"
    return f"{TITLES[test.name]} falls by"


def _undecided(test: MetricTest) -> str:
    text = (
        f"The 95 % bounds of {TITLES[test.name]}, {test.ci_low:+.5f} and {test.ci_high:+.5f}, lie on both sides of the "
        f"margin of {test.margin:g}"
    )
    return f"{text}; rows like these can show a margin of {_above(_detectable(test))} (80 % power)."


def _detectable(test: MetricTest) -> float:
    """The margin that is shown with 80 % power where there is truly no difference."""
    if test.name == "calibration":  # two tests at half the level, of which each must pass with 90 %
        return minimum_detectable(test.se, power=0.9, confidence=0.975)
    return minimum_detectable(test.se, freedom=math.inf if test.freedom is None else test.freedom)


def _above(bound: float) -> str:
    """A bound to five digits, rounded so that it still holds."""
    return f"{math.ceil(bound * 1e5) / 1e5:.5f}"


def _below(bound: float) -> str:
    """A bound to five digits, rounded so that it still holds."""
    return f"{math.floor(bound * 1e5) / 1e5:.5f}"

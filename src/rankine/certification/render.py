"""Certificates for readers: ``(label, text)`` pairs and tables, for whoever prints them. The verdict comes first."""

from __future__ import annotations

from dataclasses import dataclass

from rankine.certification.certificate import QualityCertificate
from rankine.certification.metric_tests import MetricTest
from rankine.certification.parity import ParityCertificate
from rankine.certification.reasons import TITLES
from rankine.certification.slices import SliceTest

__all__ = ["TextTable", "fact_rows", "metric_table", "parity_rows", "slice_table", "summary", "verdict_rows"]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table as text, a tuple a row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def verdict_rows(certificate: QualityCertificate) -> list[tuple[str, str]]:
    """The verdict and why, harmed parts of the rows first; of what; and what else was tested on the same rows."""
    return [
        ("verdict", certificate.verdict),
        *(("harmed", _harm(test)) for test in certificate.harmed),
        ("reason", certificate.reason),
        ("variant", f"{certificate.variant} on {certificate.engine}"),
        ("task", certificate.task),
        *([("several variants", _procedure(certificate))] if certificate.multiplicity else []),
        ("test split", _uses(certificate.split_uses)),
    ]


def fact_rows(certificate: QualityCertificate) -> list[tuple[str, str]]:
    """How the test was taken, and how different the two models are."""
    clusters = [f"{count:,} by {name}" for name, count in certificate.clusters.items()]
    overlap = certificate.top_10_overlap
    return [
        ("rows", f"{certificate.rows:,} ({certificate.positives:,} positive)"),
        ("clusters", ", ".join(clusters) or "none: rows taken as independent"),
        ("method", certificate.auc.method),
        *(
            []
            if overlap is None
            else [("top-10 overlap", f"{overlap:.1%} of the ten best rows of a user are the same")]
        ),
        ("logit difference", f"at most {certificate.score_difference_max:.3g}"),
        ("identical scores", f"{certificate.identical_score_share:.1%} of rows"),
        ("bootstrap", f"{certificate.resamples:,} resamples, seed {certificate.seed}"),
        ("created", certificate.created.isoformat(timespec="seconds")),
    ]


def metric_table(certificate: QualityCertificate) -> TextTable:
    """All metrics: values, change (positive is better), one-sided 95 % bounds, margin, verdict, power."""
    header = ("metric", "baseline", "variant", "change", "lower bound", "upper bound", "margin", "verdict", "power")
    return TextTable(header, tuple(_metric(test) for test in certificate.metrics))


def slice_table(certificate: QualityCertificate) -> TextTable | None:
    """The slices that were tested for harm, harmed ones first; None where there are none."""
    if not certificate.slices:
        return None
    header = ("slice", "rows", "positive", "AUC change", "adjusted p", "found")
    return TextTable(header, tuple(_slice(test) for test in certificate.slices))


def summary(certificate: QualityCertificate) -> str:
    """A certificate on one line: the AUC, what else was judged, harm, and how often the rows were used."""
    told = [
        f"{certificate.verdict}: AUC change {certificate.delta:+.5f}, lower bound {certificate.ci_low:+.5f} (95 %), "
        f"margin {certificate.margin:g}"
    ]
    others = [f"{TITLES[test.name]} {test.verdict}" for test in certificate.judged if test.name != "auc"]
    told += [", ".join(others)] if others else []
    told += [f"harmed: {', '.join(test.name for test in certificate.harmed)}"] if certificate.harmed else []
    told += [f"test split used {certificate.split_uses} times"] if certificate.split_uses > 1 else []
    return "; ".join(told)


def parity_rows(certificate: ParityCertificate) -> list[tuple[str, str]]:
    """What a reader asks of a parity certificate, in the order in which it is asked."""
    return [
        ("admitted", "yes" if certificate.admitted else "no"),
        ("reason", certificate.reason),
        ("variant", certificate.variant),
        ("engine", f"{certificate.engine} on {certificate.device} ({certificate.instruction_set})"),
        ("compared with", certificate.reference_engine),
        ("AUC, change", f"{certificate.auc_difference:+.2e}"),
        ("margin", f"{certificate.margin:g}"),
        *((f"{TITLES[name]}, change", f"{found:+.2e}") for name, found in certificate.metrics.items()),
        ("logit difference", f"p99 {certificate.score_difference_p99:.3g}, max {certificate.score_difference_max:.3g}"),
        ("rows", f"{certificate.rows:,}"),
        ("created", certificate.created.isoformat(timespec="seconds")),
    ]


def _metric(test: MetricTest) -> tuple[str, ...]:
    return (
        TITLES[test.name],
        f"{test.baseline:.5f}",
        f"{test.variant:.5f}",
        f"{test.delta:+.5f}",
        f"{test.ci_low:+.5f}",
        f"{test.ci_high:+.5f}",
        "" if test.margin is None else f"{test.margin:g}",
        test.verdict or "not judged",
        "" if test.power is None else f"{test.power:.0%}",
    )


def _slice(test: SliceTest) -> tuple[str, ...]:
    adjusted = "" if test.p_adjusted is None else f"{test.p_adjusted:.3f}"
    change = "" if test.delta is None else f"{test.delta:+.5f}"
    found = "HARMED" if test.harmed else "no harm shown" if test.tested else test.note or "not tested"
    return test.name, f"{test.rows:,}", f"{test.positives:,}", change, adjusted, found


def _harm(test: SliceTest) -> str:
    change = "" if test.delta is None else f"AUC change {test.delta:+.5f}, "
    return f"{test.name}: {change}{test.rows:,} rows, beyond the margin of {test.margin:g}"


def _procedure(certificate: QualityCertificate) -> str:
    taken = certificate.multiplicity
    if taken is None:
        return ""
    place = f"{taken.position} of {len(taken.order)}"
    how = f"{place} in an order fixed on validation rows" if taken.procedure == "fixed-sequence" else f"{place}, Holm's"
    verdicts = [f" ({each.verdict})" for each in taken.outcomes] or [""] * len(taken.order)
    told = [f"{name}{verdict}" for name, verdict in zip(taken.order, verdicts, strict=True)]
    others = [*told[: taken.position - 1], *told[taken.position :]]
    return f"{how}; adjusted p {taken.p_adjusted:.3f}; the others: {', '.join(others)}"


def _uses(count: int) -> str:
    # Never more than is known: nobody sees the uses of other people and machines.
    if count == 1:
        return "no earlier use of it is known"
    return f"used at least {count} times by now: each use makes a pass by luck more likely"

"""Certificates as rows of a table: ``(label, text)`` pairs, for whoever prints them."""

from __future__ import annotations

from rankine.certification.metric_tests import MetricTest
from rankine.certification.parity import ParityCertificate
from rankine.certification.quality import QualityCertificate
from rankine.certification.reasons import TITLES

__all__ = ["parity_rows", "quality_rows"]


def quality_rows(certificate: QualityCertificate) -> list[tuple[str, str]]:
    """What a reader asks of a quality certificate, in the order in which it is asked."""
    clusters = [f"{count:,} by {name}" for name, count in certificate.clusters.items()]
    return [
        ("verdict", certificate.verdict),
        ("reason", certificate.reason),
        ("variant", f"{certificate.variant} on {certificate.engine}"),
        ("task", certificate.task),
        ("AUC, baseline", f"{certificate.baseline_value:.5f}"),
        ("AUC, variant", f"{certificate.variant_value:.5f}"),
        ("AUC, change", f"{certificate.delta:+.5f} (standard error {certificate.se:.5f})"),
        ("95 % bounds", f"{certificate.ci_low:+.5f} … {certificate.ci_high:+.5f}, each one-sided"),
        ("margin", f"{certificate.margin:g}"),
        ("power", f"{certificate.power:.0%} if there is no difference"),
        ("method", certificate.auc.method),
        ("rows", f"{certificate.rows:,} ({certificate.positives:,} positive)"),
        ("clusters", ", ".join(clusters) or "none: rows taken as independent"),
        *((TITLES[test.name], _metric_text(test)) for test in certificate.metrics[1:]),
        ("logit difference", f"at most {certificate.score_difference_max:.3g}"),
        ("identical scores", f"{certificate.identical_score_share:.1%} of rows"),
        ("created", certificate.created.isoformat(timespec="seconds")),
    ]


def _metric_text(test: MetricTest) -> str:
    values = f"{test.baseline:.5f} → {test.variant:.5f}, change {test.delta:+.5f}, bound {test.ci_low:+.5f}"
    return f"{values}, margin {test.margin:g}: {test.verdict}" if test.judged else f"{values}, not judged"


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
        ("logit difference", f"p99 {certificate.score_difference_p99:.3g}, max {certificate.score_difference_max:.3g}"),
        ("rows", f"{certificate.rows:,}"),
        ("created", certificate.created.isoformat(timespec="seconds")),
    ]

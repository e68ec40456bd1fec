"""Certificates as rows of a table: ``(label, text)`` pairs, for whoever prints them."""

from __future__ import annotations

from rankine.certification.parity import ParityCertificate
from rankine.certification.quality import CalibrationComparison, LossComparison, QualityCertificate

__all__ = ["parity_rows", "quality_rows"]

_NO_PROBABILITY = "not defined: the output is no probability (its link is the identity)"


def quality_rows(certificate: QualityCertificate) -> list[tuple[str, str]]:
    """What a reader asks of a quality certificate, in the order in which it is asked."""
    loss, calibration = certificate.log_loss, certificate.calibration_ratio
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
        ("method", certificate.method),
        ("rows", f"{certificate.rows:,} ({certificate.positives:,} positive)"),
        ("clusters", ", ".join(clusters) or "none: rows taken as independent"),
        ("log loss", _loss_text(loss)),
        ("calibration", _calibration_text(calibration)),
        ("logit difference", f"at most {certificate.score_difference_max:.3g}"),
        ("identical scores", f"{certificate.identical_score_share:.1%} of rows"),
        ("created", certificate.created.isoformat(timespec="seconds")),
    ]


def _loss_text(loss: LossComparison | None) -> str:
    if loss is None:
        return _NO_PROBABILITY
    bound = "" if loss.ci_high is None else f" (95 % bound {loss.ci_high:+.5f})"
    return f"{loss.baseline:.5f} → {loss.variant:.5f}, change {loss.delta:+.5f}{bound}"


def _calibration_text(calibration: CalibrationComparison | None) -> str:
    if calibration is None:
        return _NO_PROBABILITY
    return f"{calibration.baseline:.4f} → {calibration.variant:.4f} (predicted over observed)"


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

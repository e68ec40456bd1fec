"""How a quality certificate looks on a terminal: the verdict first, then what decided it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankine.certification import QualityCertificate

__all__ = ["print_certificate"]


def print_certificate(certificate: QualityCertificate) -> None:
    """Verdict, metrics, slices, and how the test was taken."""
    from rankine.certification import fact_rows, metric_table, slice_table, verdict_rows
    from rankine.cli.render import print_lines, print_table

    print_lines(verdict_rows(certificate))
    metrics, slices = metric_table(certificate), slice_table(certificate)
    print_table(metrics.header, metrics.rows)
    if slices is not None:
        print_table(slices.header, slices.rows)
    print_lines(fact_rows(certificate))

"""The report: one self-contained HTML page, made of a result record."""

from rankine.observation.report.page import render_report

__all__ = ["render_report"]

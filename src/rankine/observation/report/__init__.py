"""The report: one self-contained HTML page, made of a result record or of an artifact's ladder."""

from rankine.observation.report.page import render_ladder, render_report

__all__ = ["render_ladder", "render_report"]

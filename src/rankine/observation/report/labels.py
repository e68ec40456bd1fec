"""Words and numbers as the report writes them."""

from __future__ import annotations

from rankine.observation.result import Role
from rankine.observation.timings import Form

__all__ = ["FORM_LABELS", "LABELS", "human_bytes", "milliseconds", "signed"]

LABELS: dict[Role, str] = {"baseline": "baseline", "bare_engine": "best bare engine", "best": "Rankine"}
FORM_LABELS: dict[Form, str] = {"parts": "in parts", "whole": "whole"}


def human_bytes(size_bytes: int) -> str:
    """A size with a decimal unit: ``75.3 MB``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.3g} GB" if size < 100 else f"{size:,.0f} GB"


def milliseconds(value: float) -> str:
    """A latency with three significant digits: ``0.412``, ``7.48``, ``26.8``, ``143``."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def signed(value: float, digits: int = 5) -> str:
    """A change with its sign, a true minus included: ``−0.00021``."""
    return f"{value:+.{digits}f}".replace("-", "−")

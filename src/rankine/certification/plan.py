"""The plan of an artifact (what is served by default), and where its certificates lie."""

from __future__ import annotations

from rankine.config import Frozen

__all__ = ["PLAN_FILE", "Plan", "parity_file", "quality_file"]

PLAN_FILE = "plan.json"


class Plan(Frozen):
    """The (variant, engine) that is served by default: certified, and the fastest of those at 512 rows."""

    schema_version: int = 1
    variant: str
    engine: str
    p50_ms_512: float


def quality_file(variant: str, engine: str) -> str:
    """Name of a quality certificate in an artifact."""
    return f"variants/{variant}/certificates/quality-{engine}.json"


def parity_file(variant: str, engine: str) -> str:
    """Name of a parity certificate in an artifact."""
    return f"variants/{variant}/certificates/parity-{engine}.json"

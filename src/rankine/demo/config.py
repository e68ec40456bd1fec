"""What a demonstration is told, and its settings by data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rankine.compression.recipe import DEFAULT_RECIPE, Recipe
from rankine.config import Frozen
from rankine.training.fit import FitConfig

__all__ = ["DemoConfig", "cache_folder"]


class DemoConfig(Frozen):
    """Settings of a demonstration.

    Attributes:
        data, schema, rows, seed: the data set, as for `rankine train`.
        model, fit: the baseline and its training.
        recipe: makes the compressed variants.
        margin: largest loss of AUC that is accepted.
        candidates: of a request, in every HTTP measurement.
        slo_ms: bound of p99 that decides goodput; ``fallback_slo_ms`` where the baseline has no rate under it.
        closed_loop_s: length of the closed-loop measurement of each server.
        max_trial_s: longest trial of the rate sweep.
        engine_rounds: timed calls of each engine at each number of rows.
    """

    data: str = "synthetic"
    schema_file: Path | None = None
    rows: int | None = None
    seed: int = 0
    model: Mapping[str, Any] = Field(default_factory=lambda: {"architecture": "dcn_v2"})
    fit: FitConfig = FitConfig()
    recipe: Recipe = DEFAULT_RECIPE
    margin: float = Field(0.001, gt=0)
    candidates: int = Field(512, ge=1)
    slo_ms: float = Field(50.0, gt=0)
    fallback_slo_ms: float = Field(200.0, gt=0)
    closed_loop_s: float = Field(8.0, gt=0)
    max_trial_s: float = Field(20.0, gt=0)
    engine_rounds: int = Field(90, ge=3)


def cache_folder() -> Path:
    """Where trained baselines are kept between runs: ``$RANKINE_CACHE``, else ``rankine`` in the user's cache."""
    if chosen := os.environ.get("RANKINE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankine"

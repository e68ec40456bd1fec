"""What a demonstration is told, and its settings by data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rankine.compression.recipe import DEFAULT_RECIPE, Distill, Quantize, Recipe
from rankine.config import Frozen
from rankine.models.schema import Split
from rankine.observation.load.config import P99_QUERIES
from rankine.training.config import FitConfig

__all__ = ["SCRATCH", "DemoConfig", "cache_folder", "demo_config"]

SCRATCH = "scratch"
"""Prefix of the control's variants: the student's sizes, trained on labels alone."""


class DemoConfig(Frozen):
    """Settings of a demonstration.

    Attributes:
        data, rows, seed: the data set, as for `rankine train`.
        split: replaces the schema's, e.g. to leave more rows for the test where rows cost nothing.
        model, fit: the baseline and its training.
        recipe: makes the compressed variants.
        control: also train the student from scratch, without its teacher: what a smaller model alone would give.
        margin: largest loss of AUC that is accepted.
        candidates: of a request, in every HTTP measurement.
        slo_ms: bound of p99 that decides goodput; ``fallback_slo_ms`` where the baseline has no rate under it.
        precision: of the rate sweep: it ends between a rate that held and one that failed, this close together.
        closed_loop_s: length of the closed-loop measurement of each server.
        max_trial_s: longest trial of the rate sweep; each offers ``min_queries`` if it can in this time.
        engine_calls: timed calls of each engine at each number of rows.
    """

    data: str = "synthetic"
    rows: int | None = None
    seed: int = 0
    split: Split | None = None
    model: Mapping[str, Any] = Field(default_factory=lambda: {"architecture": "dcn_v2"})
    fit: FitConfig = FitConfig()
    recipe: Recipe = DEFAULT_RECIPE
    control: bool = True
    margin: float = Field(0.001, gt=0, le=1)
    candidates: int = Field(512, ge=1)
    slo_ms: float = Field(50.0, gt=0)
    fallback_slo_ms: float = Field(200.0, gt=0)
    precision: float = Field(0.05, gt=0, lt=1)
    closed_loop_s: float = Field(8.0, gt=0)
    max_trial_s: float = Field(20.0, gt=0)
    min_queries: int = Field(P99_QUERIES, ge=1)
    engine_rows: tuple[int, ...] = (1, 64, 512)
    engine_calls: int = Field(90, ge=3)


def cache_folder() -> Path:
    """Where trained baselines are kept between runs: ``$RANKINE_CACHE``, else ``rankine`` in the user's cache."""
    if chosen := os.environ.get("RANKINE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rankine"


def demo_config(data: str, *, margin: float = 0.001, quick: bool = False) -> DemoConfig:
    """Settings for a data source: on synthetic data half of the rows are left for the test, since they cost nothing.

    ``quick`` makes everything tiny: it shows the way in a minute, and its figures mean nothing.
    """
    if quick:
        return DemoConfig(
            data=data,
            rows=30_000,
            split=Split(fractions=(0.6, 0.1, 0.3)),
            model={"architecture": "dcn_v2", "hidden": (64, 32), "cross_layers": 1, "embedding_dim": 8},
            fit=FitConfig(batch_rows=512, max_epochs=3),
            recipe=Recipe(passes=(Distill(hidden=(32, 16), fit=FitConfig(batch_rows=512, max_epochs=3)), Quantize())),
            control=False,
            margin=max(margin, 0.05),
            closed_loop_s=1.0,
            max_trial_s=1.0,
            min_queries=20,
            engine_calls=9,
        )
    if data == "synthetic":
        return DemoConfig(
            rows=240_000,
            split=Split(fractions=(0.5, 0.05, 0.45)),
            margin=margin,
            precision=0.1,
            closed_loop_s=4.0,
            max_trial_s=8.0,
        )
    return DemoConfig(data=data, margin=margin)

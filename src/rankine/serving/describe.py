"""What is served, as JSON for clients."""

from __future__ import annotations

from typing import Any

from rankine.certification.metric_tests import MetricTest
from rankine.compilation.split_runner import SplitRunner
from rankine.models.schema import Feature, RaggedFeature
from rankine.serving.config import ServeConfig
from rankine.serving.inputs import longest_list
from rankine.serving.items import Items
from rankine.serving.model import ServedModel, generation_of

__all__ = ["describe_items", "describe_model"]


def describe_model(model: ServedModel, config: ServeConfig) -> dict[str, Any]:
    """The reply of ``GET /v1/models/{name}``: features by side, identity, certificate and limits."""
    schema, choice = model.schema, model.choice
    quality, parity = choice.quality, choice.parity
    certificate = None
    if quality is not None:
        certificate = {
            "verdict": quality.verdict,
            "task": quality.task,
            "metric": quality.metric,
            "delta": quality.delta,
            "ci_low": quality.ci_low,
            "margin": quality.margin,
            "metrics": [_metric(test) for test in quality.metrics],
            "harmed": [test.name for test in quality.harmed],
            "split_uses": quality.split_uses,
            "rows": quality.rows,
            "engine": quality.engine,
        }
    return {
        "name": model.name,
        "version": model.version,
        "artifact": model.artifact.digest,
        **describe_items(model.items),
        "variant": choice.variant,
        "engine": choice.engine,
        "form": "parts" if isinstance(model.runner, SplitRunner) else "whole",
        "certified": choice.certified,
        "certificate": certificate,
        "parity": None if parity is None else {"admitted": parity.admitted, "auc_difference": parity.auc_difference},
        "item_id": {"name": schema.item_id, "dtype": schema.item_id_dtype},
        "tasks": [{"name": task.name, "link": task.link} for task in schema.tasks],
        "ranking": schema.ranking or schema.tasks[0].name,
        "features": [_feature(feature) for feature in schema.features],
        "limits": {
            "max_candidates": config.max_candidates,
            "max_body_bytes": config.max_body_bytes,
            "max_decompressed_bytes": config.max_decompressed_bytes,
        },
    }


def describe_items(items: Items | None) -> dict[str, Any]:
    """The part of the reply that changes with the catalog."""
    return {"generation": generation_of(items), "items": 0 if items is None else len(items)}


def _metric(test: MetricTest) -> dict[str, Any]:
    """What a client sees of the test of one metric."""
    return test.model_dump(include={"name", "baseline", "variant", "delta", "ci_low", "ci_high", "margin", "verdict"})


def _feature(feature: Feature) -> dict[str, Any]:
    described = {
        "name": feature.name,
        "kind": feature.kind,
        "dtype": feature.dtype,
        "side": feature.side,
        "freshness": feature.freshness,
        "default": feature.default,
        "given_as": _given_as(feature.side, per_row=feature.per_row),
    }
    if isinstance(feature, RaggedFeature):
        described |= {"max_length": feature.max_length, "longest_list": longest_list(feature)}
    return described


def _given_as(side: str, *, per_row: bool) -> str:
    if side == "request":
        return "request"
    return "candidates.features" if per_row else "catalog, or inline in candidates.features"

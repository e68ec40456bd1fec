"""What is served, as JSON for clients."""

from __future__ import annotations

from typing import Any

from rankine.certification import QualityCertificate
from rankine.certification.metric_tests import MetricTest
from rankine.models.schema import Feature, RaggedFeature
from rankine.serving.config import ServeConfig
from rankine.serving.devices import PoolDevice
from rankine.serving.gate import Choice
from rankine.serving.inputs import longest_list
from rankine.serving.items import Items
from rankine.serving.model import ServedModel, generation_of
from rankine.serving.rungs import ServedRung

__all__ = ["describe_items", "describe_model"]


def describe_model(model: ServedModel, config: ServeConfig) -> dict[str, Any]:
    """The reply of ``GET /v1/models/{name}``: features by side, identity, certificate and limits."""
    schema, choice = model.schema, model.choice
    return {
        "name": model.name,
        "version": model.version,
        "artifact": model.artifact.digest,
        **describe_items(model.items),
        "variant": choice.variant,
        "engine": choice.engine,
        "form": model.rungs[0].form,
        **_right(choice),
        "floor": config.floor,
        "rungs": [_rung(rung) for rung in model.rungs],
        "devices": [_device(device) for device in model.devices],
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


def _rung(rung: ServedRung) -> dict[str, Any]:
    """One of the variants that may answer; its margin on the ladder is None where no floor was set."""
    described = {
        "variant": rung.variant,
        "engine": rung.engine,
        "form": rung.form,
        "margin": rung.margin or None,
    }
    return described if rung.choice is None else described | _right(rung.choice)


def _device(device: PoolDevice) -> dict[str, Any]:
    """One device of a pool, and by which right it runs the best rung."""
    best = device.rungs[0]
    described = {"name": device.name, "engine": best.engine, "workers": device.workers, "cores": device.cores}
    return described if best.choice is None else described | _right(best.choice)


def _right(choice: Choice) -> dict[str, Any]:
    """By which right a variant is served: its certificates."""
    quality, parity = choice.quality, choice.parity
    return {
        "certified": choice.certified,
        "certificate": None if quality is None else _certificate(quality),
        "parity": None if parity is None else {"admitted": parity.admitted, "auc_difference": parity.auc_difference},
    }


def _certificate(quality: QualityCertificate) -> dict[str, Any]:
    return {
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

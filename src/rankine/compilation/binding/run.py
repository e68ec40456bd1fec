"""A split model executed part by part in NumPy and ONNX Runtime: what proofs hold engines' ways of doing it to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from rankine.compilation.binding.split import SplitModel
from rankine.compilation.binding.storage import restored
from rankine.errors import BadRequest
from rankine.models.onnx_session import open_session

__all__ = ["Columns", "Evaluate", "run_split"]

Columns = Mapping[str, np.ndarray]
"""Features as the lookup gives them, float ``(items, width)``, ``(requests, width)`` or ``(rows, width)``, by name."""
Evaluate = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], list[np.ndarray]]
"""Outputs of a graph."""


def run_split(
    split: SplitModel,
    *,
    item: Columns,
    request: Columns,
    row: Columns,
    item_index: np.ndarray,
    request_index: np.ndarray,
    evaluate: Evaluate | None = None,
) -> np.ndarray:
    """The logits ``(rows, tasks)``.

    Args:
        item: static item features, of the items of a catalog.
        request: of several requests.
        row: pair features and live item features.
        item_index: ``(rows,)``, into ``item``. ``request_index``: ``(rows,)``, into ``request``.
        evaluate: by default ONNX Runtime.

    Raises:
        BadRequest: a feature is missing; names it.
    """
    plan, parts = split.plan, split.parts
    run = evaluate or _session
    stored = _early(parts.catalog, plan.catalog_inputs, item, "item", run)
    computed = _early(parts.request, plan.request_inputs, request, "request", run)
    feeds = {}
    for column in plan.catalog:
        values = _take(column.name, stored if column.source == "computed" else item, "item")
        feeds[column.name] = restored(values, column.storage)[item_index]
    for column in plan.request:
        values = _take(column.name, computed if column.source == "computed" else request, "request")
        feeds[column.name] = values[request_index]
    feeds |= {column.name: _take(column.name, row, "row") for column in plan.row}
    return run(parts.candidate, feeds)[0]


def _early(
    model: onnx.ModelProto | None, names: tuple[str, ...], given: Columns, side: str, run: Evaluate
) -> dict[str, np.ndarray]:
    if model is None:
        return {}
    results = run(model, {name: _take(name, given, side) for name in names})
    return {value.name: result for value, result in zip(model.graph.output, results, strict=True)}


def _take(name: str, columns: Columns, side: str) -> np.ndarray:
    if name not in columns:
        raise BadRequest("a feature is missing", where=f"{side}.{name}", got=", ".join(columns) or "no features")
    return columns[name]


def _session(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    results: list[np.ndarray] = open_session(model).run(None, dict(feeds))
    return results

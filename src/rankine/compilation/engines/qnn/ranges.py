"""What each value of a graph takes over random rows of a model's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from rankine.compilation.engines.qnn.fixed_point import Ranges, float_values
from rankine.compilation.lookup import open_lookup
from rankine.models.columns import Batch, Column, Columns
from rankine.models.variant import Model

if TYPE_CHECKING:
    import onnx

__all__ = ["seen_ranges"]

_ROWS = 2048
_DENSE_STRETCH = 4.0
"""Dense values are drawn so much wider than the unit normal that they are normalized to: real ones have long tails."""


def seen_ranges(model: Model, graph: onnx.ModelProto) -> Ranges:
    """Ranges of the inputs of ``graph``, which is the packed graph of ``model``, and of all its float values."""
    import onnx

    inputs = _inputs(model, [value.name for value in graph.graph.input])
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    names = float_values(graph.graph)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every value is asked for
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = {**inputs, **dict(zip(names, session.run(names, inputs), strict=True))}
    return {name: (float(value.min()), float(value.max())) for name, value in values.items() if _is_float(value)}


def _is_float(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.size > 0


def _inputs(model: Model, names: Sequence[str]) -> dict[str, np.ndarray]:
    from rankine.compilation.conformance.batches import ranking_batch

    batch, lookup = _stretched(ranking_batch(model, _ROWS, seed=1)), open_lookup(model)
    arrays = [np.zeros((batch.rows, width), kind) for width, kind in lookup.arrays_of(tuple(names))]
    if len(arrays) == 1:
        lookup.run(batch, arrays[0])
    else:
        lookup.run_each(batch, arrays)
    return dict(zip(names, arrays, strict=True))


def _stretched(batch: Batch) -> Batch:
    def wider(columns: Columns) -> Columns:
        return {name: _wider(column) for name, column in columns.items()}

    return replace(batch, request=wider(batch.request), item=wider(batch.item), pair=wider(batch.pair))


def _wider(column: Column) -> Column:
    if isinstance(column, np.ndarray) and column.dtype == np.float32:
        return np.asarray(column * np.float32(_DENSE_STRETCH))
    return column

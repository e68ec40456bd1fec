"""The proof of a rewrite: both models are run on the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from rankine.models.arguments import call_arguments
from rankine.models.columns import Batch, Ragged
from rankine.models.export import OUTPUT
from rankine.models.lookup_reference import reference_lookup
from rankine.models.rewrite.errors import RewriteError
from rankine.models.rewrite.link import Link, in_task_order, join_logits
from rankine.models.rewrite.prepare import KNOWN_DOMAINS, prepare
from rankine.models.rewrite.shapes import Shapes, run_all
from rankine.models.schema import Schema
from rankine.models.variant import Table

__all__ = ["TOLERANCE", "largest_difference"]

TOLERANCE = 1e-5
"""Of logits: ``|a - b| <= TOLERANCE * max(1, |b|)``."""

_ELEMENT_BYTES = 4
_LARGEST_FILE_BYTES = 2**30
"""Larger models are run by the reference only: a file is limited to 2 GB."""


def largest_difference(
    original: onnx.ModelProto,
    graph: onnx.ModelProto,
    tables: Mapping[str, np.ndarray],
    links: Sequence[Link],
    schema: Schema,
    batch: Batch,
) -> float:
    """The largest ``|a - b| / max(1, |b|)`` between the rewritten model and the original on ``batch``.

    Compared are logits, of the original without its final sigmoids (the logarithm of a rounded score would show
    rounding only), and the scores that they become with those that the original itself gives. Infinite where only one
    of the two is a number.

    Raises:
        RewriteError: a list holds the id that pads it.
    """
    if schema.call is None:
        raise RewriteError("the schema does not say how the model is called", where="call")
    _check_padding(schema, batch)
    given = call_arguments(schema.call, schema, batch)
    inputs = reference_lookup(schema, {name: Table(rows) for name, rows in tables.items()}, batch, np.float32)
    (logits,) = _run(graph, dict(inputs)).values()
    expected, outputs = _reference(original, schema, given)
    if _runs_on_onnxruntime(original):
        outputs = _run_onnxruntime(original, given)
    scores = np.concatenate([value.reshape(batch.rows, -1) for value in in_task_order(outputs, schema)], axis=1)
    linked = [_sigmoid(logits[:, task]) if link == "sigmoid" else logits[:, task] for task, link in enumerate(links)]
    return max(_difference(logits, expected), _difference(np.stack(linked, axis=1), scores))


def _check_padding(schema: Schema, batch: Batch) -> None:
    for name, padding in schema.padding.items():
        for columns in (batch.request, batch.item, batch.pair):
            column = columns.get(name)
            if isinstance(column, Ragged) and (column.values == padding).any():
                raise RewriteError(
                    f"a list holds the id {padding}, which the model takes for padding",
                    where=name,
                    hint="Leave padding out of the lists in the data, or set another 'pad' under 'call'.",
                )


def _reference(
    original: onnx.ModelProto, schema: Schema, given: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The original's logits ``(rows, tasks)``, and its outputs by name, by ONNX's own reference."""
    graph = prepare(original, schema)
    outputs, nodes = list(graph.outputs), list(graph.nodes)
    join_logits(graph, schema, Shapes(graph, schema))
    known = {name for node in nodes for name in node.output}
    graph.nodes = [*nodes, *(node for node in graph.nodes if known.isdisjoint(node.output))]
    graph.outputs = [*graph.outputs, *outputs]
    feeds = {value.name: given[value.name.removeprefix("argument/")] for value in graph.inputs}
    values = run_all(graph, feeds)
    return values[OUTPUT], {name.removeprefix("value/"): values[name] for name in outputs}


def _runs_on_onnxruntime(model: onnx.ModelProto) -> bool:
    standard = all(node.domain in KNOWN_DOMAINS for node in model.graph.node)
    elements = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return standard and elements * _ELEMENT_BYTES < _LARGEST_FILE_BYTES


def _run_onnxruntime(model: onnx.ModelProto, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The original's outputs by name, by an engine that has nothing in common with the rewrite."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        results = session.run(names, {value.name: given[value.name] for value in session.get_inputs()})
    except Exception as error:  # ONNX Runtime's own, which have no common base
        hint = "Check that the types and forms under 'call' are those of the model."
        raise RewriteError("the original model cannot be run", got=str(error).strip(), hint=hint) from error
    return dict(zip(names, results, strict=True))


def _run(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    evaluator = ReferenceEvaluator(model)
    with np.errstate(all="ignore"):
        results: Any = evaluator.run(None, feeds)
    return dict(zip(evaluator.output_names, results, strict=True))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        scores: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return scores


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        scaled = np.where(same, 0, np.abs(a - b) / np.maximum(1, np.abs(b)))
    return float(np.nan_to_num(scaled, nan=np.inf, posinf=np.inf).max(initial=0.0))

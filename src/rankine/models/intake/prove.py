"""The proof that a dense graph and its tables are the user's own model: both score the same rows, on logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from rankine.models.arguments import call_arguments
from rankine.models.columns import Batch, Ragged
from rankine.models.intake.origin import Proof
from rankine.models.intake.refusal import ModelError, first_line
from rankine.models.lookup_reference import reference_lookup
from rankine.models.schema import Schema
from rankine.models.variant import Table

__all__ = ["LIMIT", "DenseScorer", "OriginalScorer", "prove"]

LIMIT = 1e-5
"""Largest ``|a - b| / max(1, |b|)`` on logits."""

_MIXED = 1e-4
"""Above it a row's logit depends on other rows; below may be the order of sums, which engines choose by size."""

_SHAPE_ONLY = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Concat")
_SHOWN_FEATURES = 12

Logits = Callable[[Batch], np.ndarray]
"""A batch to float32 ``(rows, tasks)``."""


class DenseScorer:
    """A dense graph with its tables in ONNX Runtime."""

    def __init__(self, graph: onnx.ModelProto, schema: Schema, tables: Mapping[str, Table]) -> None:
        self._session = open_session(graph)
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._schema, self._tables = schema, tables

    def __call__(self, batch: Batch) -> np.ndarray:
        features = reference_lookup(self._schema, self._tables, batch, np.float32)
        (logits,) = self._session.run(None, {name: features[name] for name in self._inputs})
        return np.asarray(logits)


class OriginalScorer:
    """The user's own ONNX graph in ONNX Runtime, its final sigmoids taken off."""

    def __init__(self, model: onnx.ModelProto, schema: Schema) -> None:
        self._session = open_session(without_final_sigmoids(model))
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._schema = schema

    def __call__(self, batch: Batch) -> np.ndarray:
        if self._schema.call is None:
            raise ModelError("the schema does not say how the model is called", where="call")
        given = call_arguments(self._schema.call, self._schema, batch)
        try:
            outputs = self._session.run(None, {name: given[name] for name in self._inputs})
        except Exception as error:
            raise ModelError(
                f"the original graph fails on {batch.rows} rows",
                got=first_line(error),
                hint="It may fix the number of rows inside: export it with a dynamic batch dimension.",
            ) from error
        named = dict(zip(self._outputs, outputs, strict=True))
        # As the rewrite orders them: by the tasks where they have their names.
        names = self._schema.task_names if set(named) == set(self._schema.task_names) else self._outputs
        return np.concatenate([np.asarray(named[name]).reshape(batch.rows, -1) for name in names], axis=1)


def prove(expected: Logits, found: Logits, batches: Sequence[tuple[str, Batch]]) -> Proof:
    """Hold ``found`` to ``expected`` on every batch, and to itself on other batches of the same rows.

    Args:
        batches: by kind; on those called ``random`` both may be NaN where a random number is outside of what the model
            has a value for.

    Raises:
        ModelError: logits differ by more than the limit; shows the worst row. Or those of a row depend on the others.
    """
    rows: dict[str, int] = {}
    worst = 0.0
    for kind, batch in batches:
        wanted, got = np.asarray(expected(batch), np.float64), np.asarray(found(batch), np.float64)
        if got.shape != wanted.shape:
            raise ModelError("the rewritten model has other outputs", got=str(got.shape), allowed=str(wanted.shape))
        errors = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
        errors[(got == wanted) | (np.isnan(got) & np.isnan(wanted) & (kind == "random"))] = 0.0
        by_row = np.where(np.isnan(errors), np.inf, errors).max(axis=1)
        row = int(np.argmax(by_row))
        if by_row[row] > LIMIT:
            raise ModelError(
                f"the rewritten model is not the original: logits differ by {by_row[row]:.3g} on {kind} rows",
                where=f"row {row}: {_describe(batch, row)}",
                got=str(got[row].tolist()),
                allowed=f"{wanted[row].tolist()} within {LIMIT:g}",
                hint="Check 'call' and the features' encodings in the schema; if they are right, please report it.",
            )
        _check_rows_apart(found, batch, got)
        rows[kind] = rows.get(kind, 0) + batch.rows
        worst = max(worst, float(by_row[row]))
    return Proof(rows=rows, max_error=worst, limit=LIMIT)


def _check_rows_apart(found: Logits, batch: Batch, logits: np.ndarray) -> None:
    """Refuse a model that mixes rows, such as by a normalization over the batch: a score would change with the others.

    Args:
        logits: ``(rows, tasks)`` of the whole batch.

    Raises:
        ModelError: rows that are scored without the others get other logits.
    """
    halves = (slice(0, batch.rows // 2), slice(batch.rows // 2, batch.rows))
    if batch.rows < len(halves):
        return
    apart = np.concatenate([np.asarray(found(batch.select(half)), np.float64) for half in halves])
    with np.errstate(invalid="ignore"):
        errors = np.abs(apart - logits) / np.maximum(1.0, np.abs(logits))
    if np.nanmax(errors, initial=0.0) > _MIXED:
        raise ModelError(
            "the score of a row depends on the other rows of the batch",
            got=f"logits differ by {np.nanmax(errors):.3g} where half of the rows are scored",
            hint="When served, batches change with the load. Look for max, mean, sum or softmax over dimension 0, and "
            "for shapes that broadcast (rows,) with (rows, 1).",
        )


def without_final_sigmoids(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose outputs are logits, where sigmoids end them and nothing else reads these."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    producers = {name: node for node in copy.graph.node for name in node.output}
    readers: dict[str, int] = {value.name: 1 for value in copy.graph.output}
    for node in copy.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    waiting = [value.name for value in copy.graph.output]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or readers[name] > 1:
            continue
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"
        elif node.op_type in _SHAPE_ONLY:
            waiting += list(node.input) if node.op_type == "Concat" else list(node.input[:1])
    return copy


def open_session(model: onnx.ModelProto) -> Any:
    """A session of ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # What is compared is the graph, not ONNX Runtime's rewrites of it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            "ONNX Runtime cannot run the graph", got=first_line(error), hint="Is it larger than 2 GB, or damaged?"
        ) from error


def _describe(batch: Batch, row: int) -> str:
    """The encoded features of one row, in short."""
    parts = []
    one = batch.select(slice(row, row + 1))
    for columns, index in (
        (one.request, one.request_index[0]),
        (one.item, one.item_index[0]),
        (one.pair, 0),
    ):
        for name, column in columns.items():
            if isinstance(column, Ragged):
                value = column.values[column.offsets[index] : column.offsets[index + 1]].tolist()
            else:
                value = column[index].tolist()
            parts.append(f"{name}={value}")
    return ", ".join(parts[:_SHOWN_FEATURES]) + (", …" if len(parts) > _SHOWN_FEATURES else "")

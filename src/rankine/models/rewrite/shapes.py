"""Shapes and types of all values of the original model, from running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from rankine.models.call import Argument
from rankine.models.rewrite.atoms import Atoms, argument_pattern
from rankine.models.rewrite.embedding_bag import EmbeddingBag
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import Graph, failures
from rankine.models.rewrite.probe import ROWS
from rankine.models.schema import Schema

__all__ = ["Shapes", "probe_feeds", "run_all"]


class Shapes:
    """Shapes by value, once for each number of rows of the probes."""

    def __init__(self, graph: Graph, schema: Schema) -> None:
        self._found: list[dict[str, tuple[int, ...]]] = []
        self.dtypes: dict[str, np.dtype] = {}
        self._failure = ""
        try:
            for rows in ROWS:
                values = run_all(graph, probe_feeds(graph, schema, rows))
                self._found.append({name: np.shape(value) for name, value in values.items()})
                self.dtypes = {name: np.asarray(value).dtype for name, value in values.items()}
        except failures as error:  # told where the shapes are needed: before, the rewrite may find a better reason
            self._failure = f"{type(error).__name__}: {error}"

    def __contains__(self, name: str) -> bool:
        return all(name in found for found in self._found)

    def of(self, name: str, node: onnx.NodeProto | None = None) -> list[tuple[int, ...]]:
        """The shape of a value, for each of ``ROWS``.

        Raises:
            RewriteError: the model could not be run.
        """
        if name not in self or self._failure:
            raise RewriteError(
                "the model cannot be run on probe rows",
                where=place(node) if node is not None else name,
                got=self._failure or "a value that was not computed",
                hint="Check that the features' sizes and the forms under 'call' are those of the model.",
            )
        return [found[name] for found in self._found]

    def per_row(self, name: str) -> int:
        """Elements of a value for each row."""
        return int(np.prod(self.of(name)[0])) // ROWS[0]


def probe_feeds(graph: Graph, schema: Schema, rows: int) -> dict[str, np.ndarray]:
    """Values for the inputs of a prepared graph: of the right shapes, and inside of every table."""
    arguments = {f"argument/{a.name}": a for a in (schema.call.arguments if schema.call else ())}
    return {value.name: _feed(value, arguments[value.name], schema, rows) for value in graph.inputs}


def _feed(value: onnx.ValueInfoProto, argument: Argument, schema: Schema, rows: int) -> np.ndarray:
    """Zeros for ids, so that they are in every table; ones for numbers; one value a row for lists."""
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or onnx.TensorProto.INT64)
    atoms = Atoms()
    pattern = argument_pattern(argument, schema, atoms.number)
    if pattern is None:
        if argument.form in ("offsets", "ends"):
            return np.arange(rows + (argument.form == "ends")).astype(dtype)
        return np.full(rows, argument.form == "weights").astype(dtype)
    row = np.array([atoms[number].kind != "id" for number in pattern.ravel()]).reshape(pattern.shape)
    return np.broadcast_to(row, (rows, *row.shape)).astype(dtype)


def run_all(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value of a graph, its inputs being ``feeds``."""
    given = [helper.make_value_info(name, onnx.TypeProto()) for name in (*feeds, *graph.constants)]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in graph.outputs]
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid("rankine", 1)]
    model = helper.make_model(helper.make_graph(graph.nodes, "all", given, outputs), opset_imports=opsets)
    evaluator = ReferenceEvaluator(model, new_ops=[EmbeddingBag])
    with np.errstate(all="ignore"):
        results: Any = evaluator.run(None, {**feeds, **graph.constants}, intermediate=True)
    return {name: np.asarray(value) for name, value in results.items() if isinstance(value, np.ndarray | np.generic)}

"""The reference: NumPy in float64 over the graph's own operators. What all other engines are compared with.

Evaluated by ONNX's own reference evaluator, after constants and casts of the graph are widened to the precision asked
for. Quantization is as the specification says: round half to even, then saturate.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.host_runner import check_out
from rankine.errors import EngineError
from rankine.models.columns import Batch, Columns
from rankine.models.lookup_reference import reference_lookup

__all__ = ["Reference", "ReferenceRunner", "engine", "widen"]

_GRAPH_FILE = "graph.onnx"
_ELEMENT_ATTRIBUTES = {"Cast": "to", "DequantizeLinear": "output_dtype", "RandomNormal": "dtype", "EyeLike": "dtype"}


class Reference:
    """The engine; see :class:`rankine.compilation.engine.Engine`. Its runners compute in float64."""

    def capabilities(self) -> Capabilities:
        return Capabilities(name="reference", version=f"onnx {onnx.__version__}", oracle=True)

    def build(self, model: Model, target: Target, folder: Path) -> None:
        shutil.copyfile(model.graph, folder / _GRAPH_FILE)
        _evaluator(folder / _GRAPH_FILE, np.float64)

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> ReferenceRunner:
        return ReferenceRunner(model, graph=folder / _GRAPH_FILE)


class ReferenceRunner:
    """Runs a model in ``dtype``; see :class:`rankine.compilation.engine.Runner`.

    Args:
        model: its graph and tables.
        dtype: numpy's float64 or float32.
        graph: read instead of the model's own.
    """

    def __init__(self, model: Model, dtype: type[np.floating[Any]] = np.float64, *, graph: Path | None = None) -> None:
        self._model = model
        self._dtype = dtype
        self._evaluator: ReferenceEvaluator | None = _evaluator(graph or model.graph, dtype)

    def logits(self, batch: Batch) -> np.ndarray:
        """Logits ``(rows, tasks)`` in the runner's precision.

        Raises:
            BadRequest: an index or id is out of range; names the feature.
            EngineError: the graph cannot be evaluated.
        """
        if self._evaluator is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        features = reference_lookup(self._model.schema, self._model.tables, batch, self._dtype)
        try:
            (result,) = self._evaluator.run(None, features)
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            raise EngineError("the reference cannot evaluate the graph", got=str(error)) from error
        return np.asarray(result)

    def run(self, batch: Batch, out: np.ndarray) -> None:
        check_out(out, batch, out.shape[-1] if out.ndim else 0)
        if batch.rows:
            result = self.logits(batch)
            check_out(out, batch, result.shape[1])
            out[:] = result

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        self._evaluator = None


def engine() -> Reference:
    return Reference()


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose float32 constants, inputs and casts are float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for constant in wide.graph.initializer:
        constant.CopyFrom(_widened(constant))
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del wide.graph.value_info[:]
    for node in wide.graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1, np.float64))  # what it is made of is float32 unless it is said
            node.attribute.append(onnx.helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.name == _ELEMENT_ATTRIBUTES.get(node.op_type) and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.asarray(values, np.float64))
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    return wide


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _evaluator(path: Path, dtype: type[np.floating[Any]]) -> ReferenceEvaluator:
    try:
        model = onnx.load(str(path))
        return ReferenceEvaluator(widen(model) if dtype is np.float64 else model)
    except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        raise EngineError("the reference cannot evaluate the graph", where=str(path), got=str(error)) from error

"""Multiply-adds of a dense graph for one row, counted from its matrix products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import onnx

__all__ = ["COUNTED_ROWS", "count_graph_macs", "node_macs", "value_shapes"]

COUNTED_ROWS = 64
"""The count is taken at this many rows and divided: what does not grow with them weighs little."""

_RECURRENT = ("GRU", "LSTM", "RNN")
_PRODUCTS = ("MatMul", "Gemm", "Conv")


def count_graph_macs(model: onnx.ModelProto) -> int:
    """Multiply-adds a row of the products in ``model`` (MatMul, Gemm, Einsum, Conv, every step of GRU, LSTM and RNN).

    Rows are the inputs' first dimension.

    Products of two activations (attention, dot interactions) count like those with weights. Where a shape cannot be
    inferred, the graph is run to see it; where that fails too, the size of the node's weights counts.
    """
    shapes = value_shapes(model, COUNTED_ROWS) | {t.name: tuple(t.dims) for t in model.graph.initializer}
    weights = {tensor.name for tensor in model.graph.initializer}
    return round(sum(node_macs(node, shapes, weights, COUNTED_ROWS) for node in model.graph.node) / COUNTED_ROWS)


def node_macs(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], weights: AbstractSet[str], rows: int
) -> float:
    """Multiply-adds of one node at so many rows; 0 for what is no product.

    Args:
        shapes: of values at so many rows, and of weights.
        weights: names of the weights, whose size counts once a row where the product's shape is not known.
    """
    if node.op_type in _RECURRENT:
        return _recurrent(node, shapes)
    if node.op_type == "Einsum":
        return _einsum(node, shapes)
    if node.op_type not in _PRODUCTS:
        return 0
    output, inner = shapes.get(node.output[0]), _inner(node, shapes)
    if output is not None and inner is not None:
        return math.prod(output) * inner
    return rows * max(
        (math.prod(shapes[name]) for name in node.input[:2] if name in weights and name in shapes), default=0
    )


def _recurrent(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of all steps: both products of every gate; one step of one row where shapes are not known."""
    given, *weights = (shapes.get(name) for name in node.input[:3])
    one = sum(math.prod(shape) for shape in weights if shape is not None)
    return one * (COUNTED_ROWS if given is None else math.prod(given[:2]))


def _einsum(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """One multiply-add for each place of all letters; 0 where shapes are not known, or letters are left out."""
    equation = next(onnx.helper.get_attribute_value(entry) for entry in node.attribute).decode().replace(" ", "")
    given = [shapes.get(name) for name in node.input]
    if "." in equation or None in given:
        return 0
    extents: dict[str, int] = {}
    for letters, shape in zip(equation.partition("->")[0].split(","), given, strict=True):
        extents |= dict(zip(letters, shape or (), strict=True))
    return math.prod(extents.values())


def _inner(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Multiply-adds behind one element of the node's output."""
    if node.op_type == "Conv":
        kernel = shapes.get(node.input[1])
        return None if kernel is None else math.prod(kernel[1:])
    left, right = (shapes.get(name) for name in node.input[:2])
    transposed = {entry.name for entry in node.attribute if entry.i}
    if left is not None:
        return left[0 if node.op_type == "Gemm" and "transA" in transposed else -1]
    if right is not None:
        return right[1 if node.op_type == "Gemm" and "transB" in transposed else max(len(right) - 2, 0)]
    return None


def value_shapes(model: onnx.ModelProto, rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes at so many rows of the values whose shape can be inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.input:
        shape = value.type.tensor_type.shape.dim
        if len(shape) and not shape[0].dim_value:
            shape[0].dim_value = rows
    for value in fixed.graph.output:  # what was written here would contradict
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    found = {}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        shape = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in shape):
            found[value.name] = tuple(size.dim_value for size in shape)
    return found | _seen(model, found, rows)


def _seen(model: onnx.ModelProto, known: dict[str, tuple[int, ...]], rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes at so many rows of what products read and give, where inference does not tell: exporters compute the
    sizes of a reshape from the number of rows."""
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in (*_PRODUCTS, "Einsum")]
    names = {name for node in products for name in (*node.input, *node.output) if name} - constants - known.keys()
    if not names:
        return {}
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    from rankine.models.onnx_session import tapped_session

    given = {
        value.name: np.ones([rows, *(size.dim_value for size in value.type.tensor_type.shape.dim[1:])], np.float32)
        for value in model.graph.input
    }
    wanted = sorted(names)
    try:
        session = tapped_session(model, wanted)
        results = session.run(wanted, given)
    except (states.Fail, states.InvalidArgument, states.RuntimeException, states.InvalidGraph):
        return {}
    return {name: result.shape for name, result in zip(wanted, results, strict=True)}

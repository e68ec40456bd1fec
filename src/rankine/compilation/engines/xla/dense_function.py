"""A dense graph as a JAX function: node by node, weights as arguments, INT8 layers as integer products.

In the canonical form an INT8 layer reads u8 activations and s8 weights, both through a DequantizeLinear. Here the
activation becomes s8, its zero point moved by 128, which is the same number, and the product is summed in int32:

    y = (x @ w.T - zero_point * w.sum()) * (scale of x * scale of w) + bias

Nothing is rounded before the scales are multiplied in. Both operands are s8: a TPU multiplies them natively, and XLA
has a fast kernel for them on the CPU, where u8 by s8 took 25 times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from jax import Array, lax
from jax import numpy as jnp

from rankine.compilation.engines.xla.operators import DTYPES, OPERATORS
from rankine.compilation.fused.prepare import prepared
from rankine.errors import EngineError
from rankine.models.node_forms import SIZES, Operator, unknown_form
from rankine.models.rewrite.graph import Graph, attribute

__all__ = ["DenseFunction", "dense_function"]

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_TO_SIGNED = 128
_MOST_SUMMED = (2**31 - 1) // 128**2
"""Products of two s8 numbers that int32 holds the sum of, whatever they are."""


@dataclass(frozen=True, eq=False)
class _Step:
    """One call; ``inputs`` are names, empty where an optional input is left out or known."""

    run: Operator
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DenseFunction:
    """A function ``(weights, *inputs) -> logits (rows, tasks)``, and its weights.

    Attributes:
        weights: what the graph has as constants, float32 and int8; one copy serves every number of rows.
        inputs: name, width and type of each.
    """

    weights: tuple[np.ndarray, ...]
    inputs: tuple[tuple[str, int, np.dtype[Any]], ...]
    _names: tuple[str, ...]
    _steps: tuple[_Step, ...]
    _output: str

    def __call__(self, weights: Sequence[Array], *parts: Array) -> Array:
        values: dict[str, Any] = dict(zip(self._names, weights, strict=True))
        values.update(zip((name for name, _, _ in self.inputs), parts, strict=True))
        for step in self._steps:
            found = step.run(step.attributes, *(values[name] if name else None for name in step.inputs))
            values.update(zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False))
        logits: Array = values[self._output]
        return logits


def dense_function(model: onnx.ModelProto) -> DenseFunction:
    """The graph of a model as a function.

    Raises:
        EngineError: names the operators that have no counterpart here, or an input whose width is open.
    """
    graph = prepared(model).graph
    if unknown := sorted({name for node in graph.nodes if (name := _unknown(node)) is not None}):
        raise EngineError("does not run these operators", got=", ".join(unknown), hint="Use another engine for it.")
    producers = graph.producers()
    steps = [step for node in graph.nodes for step in _steps(graph, node, producers)]
    steps = _needed(steps, graph.outputs[0])
    names = sorted({name for step in steps for name in step.inputs} & graph.constants.keys())
    weights = tuple(_narrow(graph.constants[name]) for name in names)
    inputs = tuple(_input(value) for value in graph.inputs)
    return DenseFunction(weights, inputs, tuple(names), tuple(steps), graph.outputs[0])


def _unknown(node: onnx.NodeProto) -> str | None:
    """The operator, or the form of one, that has no counterpart here; None where there is one."""
    if node.op_type in (_QUANTIZE, _DEQUANTIZE):
        return None
    if node.op_type not in OPERATORS:
        return node.op_type
    return unknown_form(node.op_type, {entry.name: _value(entry) for entry in node.attribute}, DTYPES)


def _steps(graph: Graph, node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> list[_Step]:
    """A node as calls; none where it was computed here."""
    if node.op_type == _QUANTIZE:
        return [_quantized(graph, node)]
    if node.op_type == _DEQUANTIZE:
        return _dequantized(graph, node)
    if (integer := _integer_layer(graph, node, producers)) is not None:
        return [integer]
    return [_plain(graph, node)]


def _plain(graph: Graph, node: onnx.NodeProto) -> _Step:
    """A call that is given its sizes as NumPy arrays; a power may be computed."""
    positions = (at for at in SIZES.get(node.op_type, ()) if at < len(node.input) and node.input[at])
    sizes: dict[int, np.ndarray] = {}
    for at in positions:
        if (values := graph.constants.get(node.input[at])) is not None:
            sizes[at] = values
        elif node.op_type != "Pow":
            hint = "Use another engine for it."
            raise EngineError("computes sizes from values", where=node.input[at], got=node.op_type, hint=hint)
    run, names = OPERATORS[node.op_type], tuple(node.input)
    if sizes:
        names = tuple("" if at in sizes else name for at, name in enumerate(names))
        run = partial(_sized, run, sizes)
    attributes = {entry.name: _value(entry) for entry in node.attribute}
    return _Step(run, attributes, names, tuple(node.output))


def _quantized(graph: Graph, node: onnx.NodeProto) -> _Step:
    zero = _zero_point(graph, node)
    if zero.size != 1 or zero.dtype == np.int32:
        raise EngineError("rounds activations by channel", where=node.output[0], allowed="one scale a tensor")
    run = partial(_quantize, zero_point=int(zero.item()), dtype=zero.dtype)
    return _Step(run, {}, (node.input[0], node.input[1]), tuple(node.output))


def _dequantized(graph: Graph, node: onnx.NodeProto) -> list[_Step]:
    zero = _zero_point(graph, node)
    axis = attribute(node, "axis", 1)
    stored, scale = graph.constants.get(node.input[0]), graph.constants[node.input[1]]
    if stored is not None:  # what reads it as floats, and not as integers, finds it so
        shape = [-1 if at == axis % max(1, stored.ndim) else 1 for at in range(stored.ndim)]
        zeros, scales = (one.reshape(shape) if one.ndim else one for one in (zero.astype(np.int32), scale))
        graph.constants[node.output[0]] = (stored.astype(np.int32) - zeros).astype(np.float32) * scales
        return []
    if scale.ndim:
        raise EngineError("rounds activations by channel", where=node.output[0], allowed="one scale a tensor")
    run = partial(_dequantize, zero_point=int(zero.item()))
    return [_Step(run, {}, (node.input[0], node.input[1]), tuple(node.output))]


def _zero_point(graph: Graph, node: onnx.NodeProto) -> np.ndarray:
    scale, zero = (graph.constants.get(name) for name in node.input[1:3])
    if scale is None or zero is None or zero.dtype not in (np.uint8, np.int8, np.int32):
        raise EngineError("rounds with a scale or a zero point that is no constant", where=node.output[0])
    return zero


def _integer_layer(graph: Graph, node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> _Step | None:
    """A linear layer over rounded activations and rounded weights; None where it is not one."""
    if node.op_type not in ("Gemm", "MatMul") or attribute(node, "transA", 0):
        return None
    if (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (1.0, 1.0):
        return None
    found = [producers.get(name) for name in node.input[:2]]
    data, weight = (one if one is not None and one.op_type == _DEQUANTIZE else None for one in found)
    if data is None or weight is None or data.input[0] in graph.constants:
        return None
    stored = graph.constants.get(weight.input[0])
    transposed = bool(attribute(node, "transB", 0))
    if stored is None or stored.dtype != np.int8 or stored.ndim != 2 or np.any(graph.constants[weight.input[2]]):
        return None
    scale, summed = graph.constants[weight.input[1]], stored.shape[1 if transposed else 0]
    along_outputs = not scale.ndim or attribute(weight, "axis", 1) % 2 == (0 if transposed else 1)
    if not along_outputs or summed > _MOST_SUMMED:
        return None
    zero = _zero_point(graph, data)
    moved = _TO_SIGNED if zero.dtype == np.uint8 else 0
    columns = stored.T if transposed else stored
    shift = (int(zero.item()) - moved) * columns.astype(np.int64).sum(axis=0)
    names = (
        data.input[0],
        graph.constant(np.ascontiguousarray(columns)),
        graph.constant(shift, np.int32),
        graph.constant(graph.constants[data.input[1]] * np.broadcast_to(scale, columns.shape[1]), np.float32),
        *node.input[2:3],
    )
    return _Step(_integer_product, {}, names, tuple(node.output))


def _quantize(attributes: object, data: Array, scale: Array, *, zero_point: int, dtype: np.dtype[Any]) -> Array:
    levels = jnp.round(data / scale) + zero_point  # to half even; the scale is an argument, or it would be inverted
    limits = np.iinfo(dtype)
    return jnp.clip(levels, limits.min, limits.max).astype(dtype)


def _dequantize(attributes: object, data: Array, scale: Array, *, zero_point: int) -> Array:
    return (data.astype(jnp.int32) - zero_point).astype(jnp.float32) * scale


def _integer_product(
    attributes: object, data: Array, weight: Array, shift: Array, scale: Array, bias: Array | None = None
) -> Array:
    """``data`` u8 or s8 ``(..., summed)``, ``weight`` s8 ``(summed, columns)``; float32 ``(..., columns)``."""
    if data.dtype == jnp.uint8:
        data = lax.bitcast_convert_type(data ^ np.uint8(_TO_SIGNED), jnp.int8)
    contracted = (((data.ndim - 1,), (0,)), ((), ()))
    product = lax.dot_general(data, weight, contracted, preferred_element_type=jnp.int32)
    found: Array = (product - shift).astype(jnp.float32) * scale
    return found if bias is None else found + bias


def _needed(steps: Sequence[_Step], output: str) -> list[_Step]:
    """The steps whose outputs are read: those that an integer layer took in are not."""
    wanted, kept = {output}, []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return kept[::-1]


def _sized(run: Operator, sizes: Mapping[int, np.ndarray], attributes: object, *values: Array | None) -> Any:
    return run(attributes, *(sizes.get(at, value) for at, value in enumerate(values)))


def _value(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode()
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _narrow(values: np.ndarray) -> np.ndarray:
    """Indices as int32 and floats as float32: JAX has nothing wider unless it is asked for."""
    narrow = {np.dtype(np.int64): np.int32, np.dtype(np.float64): np.float32}.get(values.dtype, values.dtype)
    return np.ascontiguousarray(values, narrow).reshape(values.shape)


def _input(value: onnx.ValueInfoProto) -> tuple[str, int, np.dtype[Any]]:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 2 or not dims[1].dim_value:
        raise EngineError("an input has no fixed width", where=value.name, allowed="(rows, width)")
    return value.name, int(dims[1].dim_value), onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)

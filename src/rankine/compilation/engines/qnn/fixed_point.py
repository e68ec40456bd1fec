"""A graph in fixed point throughout, as an HTP takes it: activations in 16 bits, weights of linear layers in 8.

The canonical form rounds what linear layers read and leaves the rest in FP32, which HTP refuses beside an INT8 layer.
Here every value has a pair of ``QuantizeLinear`` and ``DequantizeLinear``: u16 where the canonical form has u8 or
float. INT8 weights and their scales are taken as they are; the head's, which are FP32 there, become s8 here.

Ranges: what the canonical form stores for a layer's input (calibrated on real rows), and for all other values what they
take over random rows of the model's tables, with room to spare. 16 bits afford that: with a range four times too wide
there are 16,384 levels left.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rankine.errors import EngineError

__all__ = ["SAME_RANGE", "Ranges", "fixed_point", "float_values", "stored_ranges", "sums_as_means"]

Ranges = Mapping[str, tuple[float, float]]
"""Least and largest value, by the value's name."""
SAME_RANGE = ("Reshape", "Slice", "Gather", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Flatten")
"""Operators that move values: what they give has the scale of what they read, on HTP too."""
_ROOM = 2.0
_LEVELS = 65_535
_LINEAR = ("Gemm", "MatMul")
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def stored_ranges(graph: onnx.GraphProto) -> dict[str, tuple[float, float]]:
    """What the canonical form's pairs hold, by the value that they round."""
    constants = {one.name: one for one in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = (float(numpy_helper.to_array(constants[name])) for name in node.input[1:3])
            found[node.input[0]] = (-zero * scale, (255.0 - zero) * scale)
    return found


def float_values(graph: onnx.GraphProto) -> list[str]:
    """Names of the values that are computed and are not rounded constants, in the order of the graph."""
    constants = {one.name for one in graph.initializer}
    rounded = {node.output[0] for node in graph.node if node.op_type in _PAIR}
    return [
        name for node in graph.node for name in node.output if name and name not in rounded and name not in constants
    ]


def sums_as_means(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with each sum over an axis of fixed size as the mean, times that size.

    Sums of 16 bits over the last axis came out wrong by more than their range on the emulator of 2.7; means did not.
    """
    written = onnx.shape_inference.infer_shapes(model)
    described = (*written.graph.input, *written.graph.value_info)
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in described}
    constants = {one.name: numpy_helper.to_array(one) for one in written.graph.initializer}
    nodes = []
    for node in written.graph.node:
        shape = shapes.get(node.input[0], []) if node.input else []
        axes = constants.get(node.input[1]) if node.op_type == "ReduceSum" and len(node.input) > 1 else None
        size = int(np.prod([shape[axis] for axis in axes.reshape(-1)])) if axes is not None and shape else 0
        nodes.append(node)
        if not size:
            continue
        mean, count = f"{node.output[0]}.mean", f"{node.output[0]}.count"
        total = helper.make_node("Mul", [mean, count], [node.output[0]])
        node.op_type, node.output[0] = "ReduceMean", mean
        written.graph.initializer.append(numpy_helper.from_array(np.asarray(size, np.float32), count))
        nodes.append(total)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del written.graph.node[:], written.graph.value_info[:]
    written.graph.node.extend(copied)
    return written


def fixed_point(model: onnx.ModelProto, seen: Ranges) -> onnx.ModelProto:
    """The canonical INT8 graph ``model`` in fixed point.

    Args:
        seen: ranges of the inputs and of all values of :func:`float_values` whose type is float.
    """
    writer = _Writer(model, seen)
    for value in model.graph.input:
        writer.round_input(value.name)
    for node in model.graph.node:
        writer.add(node)
    return writer.closed()


class _Writer:
    def __init__(self, model: onnx.ModelProto, seen: Ranges) -> None:
        self._model, graph = model, model.graph
        self._constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._ranges = _joined(graph, {**seen}, stored_ranges(graph))
        self._outputs = {value.name for value in graph.output}
        self._nodes: list[onnx.NodeProto] = []
        self._added: dict[str, np.ndarray] = {}
        self._made = {node.output[0]: node for node in graph.node}
        self._read: dict[str, str] = {}
        """Under which name a value of the old graph is read in the new one."""

    def round_input(self, name: str) -> None:
        self._read[name] = self._pair(name, name)

    def add(self, node: onnx.NodeProto) -> None:
        if node.op_type in _PAIR:
            # What a layer reads is rounded to 16 bits where it is made; a weight is written with its layer.
            if node.input[0] not in self._constants:
                self._read[node.output[0]] = self._read.get(node.input[0], node.input[0])
            return
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in _LINEAR and self._is_constant(node.input[1]):
            copy.input[:] = self._linear(node)
        else:
            copy.input[:] = [self._operand(name) for name in node.input]
        self._nodes.append(copy)
        for position, name in enumerate(node.output):
            if name not in self._ranges:
                continue
            if name in self._outputs:
                copy.output[position] = f"{name}.exact"
                self._pair(f"{name}.exact", name, to=name)
            else:
                self._read[name] = self._pair(name, name)

    def closed(self) -> onnx.ModelProto:
        written = onnx.ModelProto()
        written.CopyFrom(self._model)
        del written.graph.node[:], written.graph.initializer[:], written.graph.value_info[:]
        written.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        for name, values in {**self._constants, **self._added}.items():
            if name in used:
                written.graph.initializer.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return written

    def _is_constant(self, name: str) -> bool:
        if name in self._constants:
            return True
        made = self._made.get(name)
        return made is not None and made.op_type in _PAIR and made.input[0] in self._constants

    def _operand(self, name: str) -> str:
        values = self._constants.get(name)
        if values is None or values.dtype != np.float32:
            return self._read.get(name, name)
        if name not in self._read:
            self._read[name] = self._constant(name, values)
        return self._read[name]

    def _constant(self, name: str, values: np.ndarray) -> str:
        scale, zero = _scale(float(values.min(initial=0.0)), float(values.max(initial=0.0)))
        codes = np.clip(np.rint(values / scale) + zero, 0, _LEVELS).astype(np.uint16)
        return self._dequantize(name, codes, scale, np.uint16(zero))

    def _linear(self, node: onnx.NodeProto) -> list[str]:
        """Inputs of a linear layer: s8 weights a column, and a bias on the product's scale."""
        source, weight = node.input[:2]
        transposed = any(one.name == "transB" and one.i for one in node.attribute)
        axis = 0 if transposed else self._weight_rank(weight) - 1
        made = self._made.get(weight)
        if made is not None:
            codes, column = self._constants[made.input[0]], self._constants[made.input[1]]
        else:
            codes, column = _columns(self._constants[weight], axis)
        zeros = np.zeros(column.shape, np.int8)
        names = [self._operand(source), self._dequantize(f"{node.output[0]}.w", codes, column, zeros, axis)]
        if len(node.input) > 2 and node.input[2]:
            names.append(self._bias(node, column))
        return names

    def _weight_rank(self, name: str) -> int:
        made = self._made.get(name)
        return int(self._constants[made.input[0] if made is not None else name].ndim)

    def _bias(self, node: onnx.NodeProto, column: np.ndarray) -> str:
        name = node.input[2]
        made = self._made.get(name)
        if made is None:
            bias = self._constants[name].reshape(-1).astype(np.float64)
        else:
            bias = self._constants[made.input[0]].astype(np.float64) * self._constants[made.input[1]]
        source = self._source(node.input[0])
        scale = (np.float64(_scale(*self._ranges[source])[0]) * column).astype(np.float32)
        codes = np.rint(bias / scale)
        limit = np.iinfo(np.int32).max
        if np.abs(codes).max(initial=0) > limit:
            raise EngineError("a bias does not fit 32 bits", where=node.output[0], got=f"{np.abs(bias).max():g}")
        return self._dequantize(
            f"{node.output[0]}.b", codes.astype(np.int32), scale, np.zeros(scale.shape, np.int32), axis=0
        )

    def _source(self, name: str) -> str:
        """The value that a layer's rounded input is."""
        while (made := self._made.get(name)) is not None and made.op_type in _PAIR:
            name = made.input[0]
        return name

    def _dequantize(
        self,
        name: str,
        codes: np.ndarray,
        scale: np.ndarray | np.float32,
        zero: np.ndarray | np.uint16,
        axis: int | None = None,
    ) -> str:
        names = [f"{name}.codes", f"{name}.scale", f"{name}.zero_point"]
        self._added.update(zip(names, (codes, np.asarray(scale, np.float32), np.asarray(zero)), strict=True))
        node = helper.make_node("DequantizeLinear", names, [f"{name}.value"])
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return f"{name}.value"

    def _pair(self, value: str, ranged: str, to: str | None = None) -> str:
        scale, zero = _scale(*self._ranges[ranged])
        constants = [f"{ranged}.u16.scale", f"{ranged}.u16.zero_point"]
        self._added.update(zip(constants, (np.asarray(scale), np.asarray(zero, np.uint16)), strict=True))
        code, read = f"{ranged}.u16", to or f"{ranged}.u16.value"
        self._nodes.append(helper.make_node("QuantizeLinear", [value, *constants], [code]))
        self._nodes.append(helper.make_node("DequantizeLinear", [code, *constants], [read]))
        return read


def _joined(
    graph: onnx.GraphProto, seen: dict[str, tuple[float, float]], stored: Ranges
) -> dict[str, tuple[float, float]]:
    """Ranges with room; values that are only moved share one, whoever moves them."""
    found = {}
    for name, (low, high) in seen.items():
        low, high = low * _ROOM, high * _ROOM
        if name in stored:
            low, high = min(low, stored[name][0]), max(high, stored[name][1])
        found[name] = (min(low, 0.0), max(high, 0.0))
    moves = []
    for node in graph.node:
        if node.op_type in SAME_RANGE:
            moves.append([name for name in (node.input[0], node.output[0]) if name in found])
        elif node.op_type == "Concat":
            moves.append([name for name in (*node.input, *node.output) if name in found])
    for names in (*moves, *reversed(moves), *moves):
        if names:
            lows, highs = zip(*(found[name] for name in names), strict=True)
            found.update(dict.fromkeys(names, (min(lows), max(highs))))
    return found


def _scale(low: float, high: float) -> tuple[np.float32, int]:
    """Scale and zero point of u16 for a range that holds zero."""
    scale = np.float32(max(high - low, 1e-6) / _LEVELS)
    return scale, int(np.clip(np.rint(-low / scale), 0, _LEVELS))


def _columns(matrix: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight in s8, symmetric, with one scale along ``axis``."""
    others = tuple(one for one in range(matrix.ndim) if one != axis)
    scale = np.maximum(np.abs(matrix).max(axis=others), 1e-9).astype(np.float32) / np.float32(127)
    shape = [1] * matrix.ndim
    shape[axis] = -1
    return np.clip(np.rint(matrix / scale.reshape(shape)), -127, 127).astype(np.int8), scale

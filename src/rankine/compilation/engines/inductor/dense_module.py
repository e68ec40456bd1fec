"""A dense graph as a PyTorch module that ``torch.export`` takes: sizes are constants, roundings are PyTorch's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch import Tensor, nn

from rankine.compilation.fused.prepare import prepared
from rankine.errors import EngineError
from rankine.models.node_forms import SIZES, Operator
from rankine.models.rewrite.graph import Graph, attribute
from rankine.models.torch_graph.steps import Step, step_of, unknown_operators

__all__ = ["DenseModule"]

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_LIMITS = {torch.uint8: (0, 255), torch.int8: (-128, 127)}


class DenseModule(nn.Module):
    """The graph, node by node: one tensor ``(rows, width)`` per input to logits ``(rows, tasks)``.

    Weights are buffers. Roundings are ``quantized_decomposed`` operators, by which the compiler recognizes an INT8
    linear layer; they round as the graph says, to half even.

    Attributes:
        widths, dtypes: of the inputs.

    Raises:
        EngineError: names the operators that have no counterpart here, or an input whose width is open.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = prepared(model).graph
        unknown = [name for name in unknown_operators(graph.nodes) if name not in (_QUANTIZE, _DEQUANTIZE)]
        if unknown:
            raise EngineError("does not run these operators", got=", ".join(unknown), hint="Use another engine for it.")
        self.widths = [_width(value) for value in graph.inputs]
        self.dtypes = [_dtype(value) for value in graph.inputs]
        self._inputs = tuple(value.name for value in graph.inputs)
        self._output = graph.outputs[0]
        self._steps = tuple(step for node in graph.nodes if (step := _step(graph, node)) is not None)
        read = {name for step in self._steps for name in step.inputs}
        names = sorted(read & graph.constants.keys())
        self._buffer_names = {name: f"constant_{number}" for number, name in enumerate(names)}
        for name, key in self._buffer_names.items():
            self.register_buffer(key, torch.from_numpy(np.array(graph.constants[name])))

    def forward(self, *parts: Tensor) -> Tensor:
        values = {name: self.get_buffer(key) for name, key in self._buffer_names.items()}
        values.update(zip(self._inputs, parts, strict=True))
        for step in self._steps:
            found = step.run(step.attributes, *(values[name] if name else None for name in step.inputs))
            values.update(zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False))
        return values[self._output].contiguous()


def _step(graph: Graph, node: onnx.NodeProto) -> Step | None:
    """A node as a call; None where it was computed here."""
    if node.op_type not in (_QUANTIZE, _DEQUANTIZE):
        return _with_sizes(step_of(node), graph, SIZES.get(node.op_type, ()), node.op_type)
    scale, zero = (graph.constants.get(name) for name in node.input[1:3])
    if scale is None or zero is None:
        raise EngineError("rounds with a scale that is no constant", where=node.output[0])
    if zero.dtype == np.int32:  # a bias
        graph.constants[node.output[0]] = graph.constants[node.input[0]].astype(np.float32) * scale
        return None
    limits, dtype = _LIMITS[torch.from_numpy(np.array(zero)).dtype], torch.from_numpy(np.array(zero)).dtype
    operators = torch.ops.quantized_decomposed
    if scale.ndim:
        name = graph.constant(zero, np.int64)
        each = partial(_per_channel, axis=attribute(node, "axis", 1), limits=limits, dtype=dtype)
        return Step(each, {}, (node.input[0], node.input[1], name), tuple(node.output))
    run = operators.quantize_per_tensor if node.op_type == _QUANTIZE else operators.dequantize_per_tensor
    whole = partial(_per_tensor, run.default, (float(scale), int(zero), *limits, dtype))
    return Step(whole, {}, (node.input[0],), tuple(node.output))


def _with_sizes(step: Step, graph: Graph, positions: Sequence[int], operator: str) -> Step:
    """A call that is given its sizes as arrays; a power may be computed."""
    known = {at: step.inputs[at] for at in positions if at < len(step.inputs) and step.inputs[at]}
    computed = [name for name in known.values() if name not in graph.constants]
    if computed and operator != "Pow":
        raise EngineError(
            "computes sizes from values", where=computed[0], got=operator, hint="Use another engine for it."
        )
    if not known or computed:
        return step
    sizes = {at: graph.constants[name] for at, name in known.items()}
    others = tuple("" if at in sizes else name for at, name in enumerate(step.inputs))
    return replace(step, run=partial(_sized, step.run, sizes), inputs=others)


def _sized(run: Operator, sizes: Mapping[int, np.ndarray], attributes: object, *values: Tensor | None) -> Any:
    return run(attributes, *(sizes.get(at, value) for at, value in enumerate(values)))


def _per_tensor(run: Any, how: tuple[Any, ...], attributes: object, data: Tensor) -> Tensor:
    found: Tensor = run(data, *how)
    return found


def _per_channel(
    attributes: object, data: Tensor, scale: Tensor, zero: Tensor, *, axis: int, limits: tuple[int, int], dtype: Any
) -> Tensor:
    run = torch.ops.quantized_decomposed.dequantize_per_channel
    found: Tensor = run(data, scale, zero, axis % data.dim(), *limits, dtype)
    return found


def _width(value: onnx.ValueInfoProto) -> int:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != 2 or not dims[1].dim_value:
        raise EngineError("an input has no fixed width", where=value.name, allowed="(rows, width)")
    return int(dims[1].dim_value)


def _dtype(value: onnx.ValueInfoProto) -> torch.dtype:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return torch.from_numpy(np.empty(0, kind)).dtype

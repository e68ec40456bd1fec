"""Columns of a linear layer's input brought to like ranges before they share one INT8 scale.

SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438): ``x W = (x / s) (diag(s) W)`` with one factor a column. A layer
that reads a concatenation gets columns of very different ranges (dot products beside a bottom MLP's output, a sum over
a history beside embeddings); on one scale for all of them, the small ones keep a few levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["equalize_inputs"]

_STRENGTH = 0.8
"""How much of the difference of ranges goes over into the weights, the paper's alpha: 0.8 was better than 0.5 on the
validation rows of three models whose INT8 form lost without it (two DLRMs and a DIN)."""
_LEAST_SPREAD = 8.0
"""Layers whose widest column is at most so many times the median one stay as they are: they lose nothing, and scaling
costs a product a column."""
_TINY = 1e-6


def equalize_inputs(model: onnx.ModelProto, layers: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[str]:
    """Scale the input columns of those ``layers`` whose ranges differ much; the function stays the same up to rounding.

    Args:
        model: changed in place; FP32, weights as initializers.
        layers: names of ``Gemm`` and ``MatMul`` nodes with a constant matrix of weights.
        inputs: float32 ``(rows, width)`` per graph input, on which ranges are taken.

    Returns:
        Names of the layers that were scaled.
    """
    from onnx import helper, numpy_helper

    nodes = {node.name: node for node in model.graph.node if node.name in layers}
    ranges = _column_ranges(model, sorted({node.input[0] for node in nodes.values()}), inputs)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    changed = []
    for name, node in nodes.items():
        found = ranges[node.input[0]]
        used = found[found > _TINY]
        if not len(used) or used.max() <= _LEAST_SPREAD * np.median(used):
            continue
        matrix = numpy_helper.to_array(weights[node.input[1]])
        axis = 1 if _transposed(node) else 0
        of_weights = np.abs(matrix).max(axis=1 - axis)
        factor = _factors(found, of_weights)
        scaled = matrix * (factor[None, :] if axis == 1 else factor[:, None])
        model.graph.initializer.append(numpy_helper.from_array(scaled.astype(np.float32), f"{name}.equalized"))
        model.graph.initializer.append(numpy_helper.from_array((1 / factor).astype(np.float32), f"{name}.factor"))
        multiply = helper.make_node("Mul", [node.input[0], f"{name}.factor"], [f"{name}.input"], name=f"{name}.scale")
        model.graph.node.insert(list(model.graph.node).index(node), multiply)
        node = next(one for one in model.graph.node if one.name == name)
        node.input[0], node.input[1] = f"{name}.input", f"{name}.equalized"
        changed.append(name)
    _drop_unused(model)
    return changed


def _factors(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One factor a column, near one on the whole; ``(columns,)`` float64."""
    factor = np.maximum(columns, _TINY) ** _STRENGTH / np.maximum(weights, _TINY) ** (1 - _STRENGTH)
    factor = np.where((columns > _TINY) & (weights > _TINY), factor, 1.0)
    scaled: np.ndarray = factor / np.exp(np.log(factor).mean())
    return scaled


def _column_ranges(
    model: onnx.ModelProto, values: Sequence[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The largest magnitude in each last-axis column of ``values``."""
    import onnx
    import onnxruntime

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    wanted = [name for name in values if name not in inputs]
    tapped.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, np.ndarray] = {}
    for batch in _batches(inputs):
        outputs = dict(zip(wanted, session.run(wanted, batch), strict=True)) if wanted else {}
        for name in values:
            array = batch[name] if name in batch else outputs[name]
            largest = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], largest) if name in found else largest
    return found


def _batches(inputs: Mapping[str, np.ndarray], rows: int = 1024) -> Iterator[dict[str, np.ndarray]]:
    total = len(next(iter(inputs.values())))
    for start in range(0, total, rows):
        yield {name: values[start : start + rows] for name, values in inputs.items()}


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _drop_unused(model: onnx.ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)

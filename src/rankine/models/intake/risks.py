"""Operators of a graph that need care: engines run them slowly, not in INT8, or not at all."""

from __future__ import annotations

from collections import Counter

import onnx

from rankine.config import Frozen

__all__ = ["Risk", "risky_operators"]

_LOOPS = "runs step by step: bring the nn.Module or .pt2 instead, or write it without a loop"
_SHAPES = "its result's shape depends on values: use a mask instead"
_SCATTER = "writes by index: slow on most engines, refused by some"
_INDEX = "reads by index, row by row: slow, and stays FP32"
_BRANCH = "only one branch runs: no engine fuses it"
_STRING = "works on text: encode it by the schema instead"

_REASONS = {
    "Loop": _LOOPS,
    "Scan": _LOOPS,
    "LSTM": "runs step by step: stays FP32",
    "GRU": "runs step by step: stays FP32",
    "RNN": "runs step by step: stays FP32",
    "NonZero": _SHAPES,
    "Unique": _SHAPES,
    "Compress": _SHAPES,
    "NonMaxSuppression": _SHAPES,
    "Scatter": _SCATTER,
    "ScatterElements": _SCATTER,
    "ScatterND": _SCATTER,
    "GatherND": _INDEX,
    "GatherElements": _INDEX,
    "If": _BRANCH,
    "TopK": "engines break ties differently: scores can differ",
    "Multinomial": "is random: scores differ from run to run",
    "Bernoulli": "is random: scores differ from run to run",
    "CumSum": "stays FP32, and is summed in another order by some engines",
    "Log": "of a number that is 0 or less is no number: INT8 rounding can make it so",
    "Exp": "magnifies the rounding of INT8",
    "Einsum": "stays FP32 on most engines: write it as MatMul",
}


class Risk(Frozen):
    """An operator, how often it stands in the graph, and why it needs care."""

    operator: str
    count: int
    reason: str


def risky_operators(model: onnx.ModelProto) -> tuple[Risk, ...]:
    """What needs care in a graph and in the bodies of its control flow, the most frequent first."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    counts: Counter[tuple[str, str]] = Counter()
    for node in _nodes(model.graph):
        reason = _reason(node, weights)
        if reason is not None:
            counts[f"{node.domain}.{node.op_type}" if node.domain else node.op_type, reason] += 1
    return tuple(Risk(operator=name, count=count, reason=why) for (name, why), count in counts.most_common())


def _reason(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> str | None:
    if node.domain not in ("", "ai.onnx"):
        return "is no operator of ONNX: only the engine that it was made for runs it"
    if node.op_type.startswith("Sequence") or node.op_type in ("SplitToSequence", "ConcatFromSequence"):
        return "works on sequences of tensors: most engines refuse it"
    if node.op_type.startswith("String") or node.op_type == "TfIdfVectorizer":
        return _STRING
    if node.op_type == "Softmax" and _attribute(node, "axis", -1) == 0:
        return "goes over the rows: a row's score would depend on the others in its batch"
    if node.op_type.startswith("Reduce") and _reduces_rows(node, weights):
        return "goes over the rows: a row's score would depend on the others in its batch"
    if node.op_type == "BatchNormalization" and _attribute(node, "training_mode", 0):
        return "is in training mode: a row's score would depend on the others in its batch"
    return _REASONS.get(node.op_type)


def _reduces_rows(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    axes = next((list(entry.ints) for entry in node.attribute if entry.name == "axes"), None)
    if axes is None and len(node.input) > 1 and node.input[1] in weights:
        axes = onnx.numpy_helper.to_array(weights[node.input[1]]).reshape(-1).tolist()
    if axes is None:
        return len(node.input) < 2 and not _attribute(node, "noop_with_empty_axes", 0)
    return 0 in axes


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = []
    for node in graph.node:
        found.append(node)
        for entry in node.attribute:
            if entry.type == onnx.AttributeProto.GRAPH:
                found += _nodes(entry.g)
    return found

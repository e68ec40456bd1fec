"""A graph in the form that the splits read: sizes are constants, and no layer works on rows folded with positions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rankine.compilation.binding.analysis import judge
from rankine.compilation.binding.dims import Rows, Shape
from rankine.compilation.binding.emitter import Emitter
from rankine.compilation.binding.facts import Fact
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.rules.elementwise import ROUNDING
from rankine.compilation.binding.weights import read_weight
from rankine.models.rewrite.graph import Graph, attribute, reads, renamed

__all__ = ["normalized"]

_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_BROADCASTING = (*_COMPARISONS, "Add", "Div", "Max", "Min", "Mul", "Sub", "Where")
_SIZED = {"Reshape": 1, "Expand": 1}
"""Operators that read sizes, and where."""


def normalized(model: onnx.ModelProto, sides: Mapping[str, Binding]) -> Graph:
    """The graph of ``model`` with the same results, exactly.

    * What reads constants only is computed, but for rounded weights: they stay as engines know them.
    * The target of a reshape is a constant wherever it is computed from the number of rows alone.
    * ``Gemm(Reshape(x, [-1, k]))`` of ``x (rows, length, k)`` is a ``MatMul`` of ``x``: positions stay apart from rows.
    * What is computed twice is computed once, and what nothing reads is left out.
    """
    emitter = Emitter(_folded(model), sides)
    folds: dict[str, str] = {}
    filled: dict[str, np.ndarray] = {}
    for node in _folded(model).nodes:
        if node.op_type in _SIZED:
            _sized(emitter, node)
        node = _cast(emitter, _without_filled(emitter, node, filled))
        if not _unfolded(emitter, node, folds) and not _split_apart(emitter, node):
            emitter.keep(node)
        if node.op_type in ("ConstantOfShape", "Tile"):
            _note_filled(emitter, node, filled)
    emitter.graph.prune()
    return emitter.graph


def _folded(model: onnx.ModelProto) -> Graph:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = Graph.read(copied)
    constants = set(graph.constants)
    rounded = []
    for node in graph.nodes:
        if set(reads(node)) <= constants and node.op_type != "Constant":
            constants.update(node.output)
            if node.op_type in ROUNDING:
                rounded.append(node)
        elif node.op_type == "Constant":
            constants.update(node.output)
    held = {node.output[0] for node in rounded}
    graph.nodes = [node for node in graph.nodes if node.output[0] not in held]
    graph.fold()
    graph.nodes = [*rounded, *graph.nodes]
    return graph


def _sized(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Give a node its sizes as a constant; of an expansion 1, which keeps them, where the rows are."""
    name = emitter.aliases.get(node.input[1], node.input[1])
    data, sizes = emitter.facts[emitter.aliases.get(node.input[0], node.input[0])], emitter.facts[name]
    if sizes.content is None or data.shape is None or name in emitter.graph.constants:
        return
    content = sizes.content
    rows = [dim for dim in content if isinstance(dim, Rows)]
    if len(rows) != 1 or any(dim in (0, -1) for dim in content):
        return
    if node.op_type == "Expand":
        behind = data.shape[-len(content) :]
        aligned = (1,) * (len(content) - len(behind)) + behind
        if aligned[content.index(rows[0])] != rows[0]:
            return
    filler = -1 if node.op_type == "Reshape" else 1
    node.input[1] = emitter.constant([filler if isinstance(dim, Rows) else dim for dim in content], np.int64)


def _note_filled(emitter: Emitter, node: onnx.NodeProto, filled: dict[str, np.ndarray]) -> None:
    """Remember one row of what is the same in all rows."""
    fact = emitter.facts[node.output[0]]
    if fact.shape is None or sum(isinstance(dim, Rows) for dim in fact.shape) != 1 or Rows() not in fact.shape:
        return
    sizes = [1 if isinstance(dim, Rows) else dim for dim in fact.shape]
    if node.op_type == "ConstantOfShape":
        value = attribute(node, "value")
        number = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
        filled[node.output[0]] = np.full(sizes, number.reshape(-1)[0], fact.dtype)
    elif (row := emitter.graph.constants.get(emitter.aliases.get(node.input[0], node.input[0]))) is not None:
        filled[node.output[0]] = np.tile(row, [size // own for size, own in zip(sizes, row.shape, strict=True)])


def _without_filled(emitter: Emitter, node: onnx.NodeProto, filled: dict[str, np.ndarray]) -> onnx.NodeProto:
    """An elementwise node that reads one row of such a value, broadcast: how many there are does not matter."""
    if node.op_type not in _BROADCASTING or not filled.keys() & set(node.input):
        return node
    names = emitter.aliases | {name: emitter.constant(row, row.dtype) for name, row in filled.items()}
    copy = renamed(node, {name: names[name] for name in node.input if name in names})
    before, _ = judge(renamed(node, emitter.aliases), emitter.facts, emitter.graph.constants)
    after, _ = judge(copy, emitter.facts, emitter.graph.constants)
    same = before[node.output[0]].shape == after[node.output[0]].shape is not None
    return copy if same else node


def _cast(emitter: Emitter, node: onnx.NodeProto) -> onnx.NodeProto:
    """A ``CastLike`` as a cast: of the other value only the type is read, not when it is known."""
    like = emitter.facts.get(emitter.aliases.get(node.input[1], node.input[1])) if node.op_type == "CastLike" else None
    if like is None or like.shape is None:
        return node
    return helper.make_node(
        "Cast", [node.input[0]], [node.output[0]], to=helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype))
    )


def _unfolded(emitter: Emitter, node: onnx.NodeProto, folds: dict[str, str]) -> bool:
    """Whether a node was written in another way: it works on rows that were folded with positions.

    Args:
        folds: values ``(rows * length, k)``, and the ``(rows, length, k)`` that each is a reshape of.
    """
    source = emitter.aliases.get(node.input[0], node.input[0]) if node.input else ""
    fact = emitter.facts.get(source)
    if fact is None or fact.shape is None:
        return False
    if node.op_type == "Reshape":
        return _reshape(emitter, node, source, fact, folds)
    if source not in folds or node.output[0] in emitter.graph.outputs:
        return False
    whole = folds[source]
    if node.op_type in ROUNDING and _scalar(emitter, node):
        result = emitter.emit(node.op_type, [whole, *node.input[1:]], _attributes(node))
    elif (
        node.op_type == "Gemm"
        and not (len(node.input) > 2 and node.input[2])
        and (weight := read_weight(emitter, node))
    ):
        # With a bias it stays a Gemm, which adds it for nothing.
        result = emitter.emit("MatMul", [whole, weight.rows(np.arange(weight.height))])
    else:
        return False
    copied = emitter.emit("Reshape", [result, emitter.constant([-1, emitter.shape(result)[-1]], np.int64)])
    emitter.aliases[node.output[0]] = copied
    folds[copied] = result
    return True


def _split_apart(emitter: Emitter, node: onnx.NodeProto) -> bool:
    """Whether a node was a ``Split``, written as slices: each of its outputs may be known at a time of its own."""
    if node.op_type != "Split" or set(node.output) & set(emitter.graph.outputs):
        return False
    source = emitter.aliases.get(node.input[0], node.input[0])
    copied = renamed(node, emitter.aliases)
    facts, refusal = judge(copied, emitter.facts, emitter.graph.constants)
    if refusal is not None or any(fact.shape is None for fact in facts.values()):
        return False
    axis = attribute(node, "axis", 0) % len(emitter.shape(source))
    start = 0
    for name in node.output:
        length = (facts[name].shape or ())[axis]
        if not isinstance(length, int):
            return False
        places = [emitter.constant([place], np.int64) for place in (start, start + length, axis)]
        emitter.aliases[name] = emitter.emit("Slice", [source, *places])
        start += length
    return True


def _reshape(emitter: Emitter, node: onnx.NodeProto, source: str, fact: Fact, folds: dict[str, str]) -> bool:
    emitter.keep(node)
    name = emitter.aliases.get(node.output[0], node.output[0])
    shape = emitter.facts[name].shape
    if shape is None or fact.shape is None:
        return True
    origin = folds.get(source, source)
    if shape == emitter.facts[origin].shape and node.output[0] not in emitter.graph.outputs:
        emitter.aliases[node.output[0]] = origin
    elif _folds(fact.shape, shape):
        folds[name] = source
    return True


def _folds(before: Shape, after: Shape) -> bool:
    return len(before) > 2 == len(after) and before[0] == Rows() and after[0] != Rows() and before[-1] == after[-1]


def _scalar(emitter: Emitter, node: onnx.NodeProto) -> bool:
    return all(emitter.facts[name].shape in ((), (1,)) for name in node.input[1:] if name)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}

"""One-hot encodings: the product of a one-hot vector and a matrix is a row of the matrix, which is a lookup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import attribute
from rankine.models.rewrite.probe import ROWS, Layout, Selection
from rankine.models.rewrite.sources import Block, Column

if TYPE_CHECKING:
    from rankine.models.rewrite.walk import Walk

__all__ = ["rewrite_concat", "rewrite_gemm", "rewrite_matmul", "rewrite_one_hot"]

_LARGEST = 100_000
_PRODUCTS = ("MatMul", "Gemm")


def rewrite_one_hot(walk: Walk, node: onnx.NodeProto) -> bool:
    """``OneHot(ids, depth, [0, 1])``: index work, whose elements say whether an id has a value.

    Raises:
        RewriteError: the encoding is too wide to be taken apart.
    """
    depth, values = (walk.graph.constants.get(name) for name in node.input[1:3])
    if node.input[0] not in walk.index or depth is None or values is None or values.ravel().tolist() != [0, 1]:
        return False
    size = int(depth.ravel()[0])
    axis = attribute(node, "axis", -1) % (len(walk.index[node.input[0]].shape) + 1)
    return define_hot(walk, node, node.input[0], np.arange(size), axis, values.dtype)


def define_hot(
    walk: Walk, node: onnx.NodeProto, name: str, wanted: np.ndarray, axis: int | None, dtype: np.dtype
) -> bool:
    """Define a node's output as flags: whether the ids ``name`` are ``wanted``.

    Args:
        wanted: values, broadcast against the ids; or ``(depth,)``, laid along the new ``axis``.
    """
    if wanted.size > _LARGEST:
        hint = "Write it as nn.Embedding."
        raise RewriteError("the one-hot encoding is too wide", where=place(node), got=wanted.size, hint=hint)
    numbers, rows = [], []
    for size in range(len(ROWS)):
        decoded = walk.probes.decoded(name, size)
        if decoded is None or any(walk.atom(int(n)).kind != "id" for n in np.unique(decoded[0]) if n >= 0):
            return False
        found, row, offsets = decoded
        if axis is not None:
            found, row, offsets = (np.expand_dims(part, axis) for part in decoded)
            along = wanted.reshape(-1, *(1 for _ in range(found.ndim - 1 - axis)))
        else:
            along = wanted
        found, row, ids = np.broadcast_arrays(found, row, along - offsets)
        if (found < 0).any() or (ids != np.floor(ids)).any() or not np.isfinite(ids).all():
            return False  # no id is 7.5: what compares with it is not understood
        hot = [walk.hot(int(n), int(i)) for n, i in zip(found.ravel(), ids.ravel(), strict=True)]
        numbers.append(np.array(hot, np.int64).reshape(found.shape))
        rows.append(row)
    walk.probes.define_from_codes(node.output[0], numbers, rows, dtype)
    walk.settle(node.output[0], dtype)
    return True


def rewrite_concat(walk: Walk, node: onnx.NodeProto) -> bool:
    """Keep a concatenation of one-hot encodings and ordinary values apart, where only products read it."""
    result = node.output[0]
    if result in walk.graph.outputs or not any(_is_hot(walk, name) for name in node.input):
        return False
    if len(walk.shapes.of(result, node)[0]) != 2 or attribute(node, "axis", 0) not in (1, -1):
        return False
    for reader in walk.readers.get(result, []):
        if reader.op_type not in _PRODUCTS or list(reader.input).count(result) != 1 or reader.input[0] != result:
            return False
        if _weight(walk, reader) is None:
            return False
    for name in node.input:
        if name in walk.index and (walk.index[name].axis or len(walk.index[name].atoms) != 1):
            return False
    walk.pending[result] = list(node.input)
    return True


def rewrite_matmul(walk: Walk, node: onnx.NodeProto) -> bool:
    """``MatMul(one-hot, W)``, also with other values beside the one-hot encodings."""
    return _rewrite_product(walk, node, 1.0)


def rewrite_gemm(walk: Walk, node: onnx.NodeProto) -> bool:
    """``Gemm(one-hot, W, bias)``, also with other values beside the one-hot encodings."""
    if attribute(node, "transA", 0) or attribute(node, "beta", 1.0) != 1.0:
        return False
    return _rewrite_product(walk, node, float(attribute(node, "alpha", 1.0)))


@dataclass(frozen=True)
class _Parts:
    """A product taken apart: what is looked up, and what remains with its rows of the weight."""

    looked_up: list[list[Column]]
    values: list[str]
    weights: list[np.ndarray]
    constant: np.ndarray


def _rewrite_product(walk: Walk, node: onnx.NodeProto, scale: float) -> bool:
    name, weight = node.input[0], _weight(walk, node)
    parts = walk.pending.get(name, [name])
    if weight is None or not any(_is_hot(walk, part) for part in parts):
        return False
    if any(walk.index[part].atoms.ndim != 2 for part in parts if part in walk.index):
        return False
    taken = _take_apart(walk, node, parts, weight * np.float32(scale))
    terms = [_emit(walk, columns) for columns in taken.looked_up]
    if taken.values:
        terms.append(_rest(walk, taken))
    constant = taken.constant
    if len(node.input) > 2 and node.input[2]:
        bias = walk.graph.constants.get(node.input[2])
        if bias is None:
            terms.append(node.input[2])
        else:
            constant = constant + bias
    if constant.any():
        terms.append(walk.graph.constant(constant, np.float32))
    _add_up(walk, terms, node.output[0])
    features = sorted({column[0].split("/")[1] for columns in taken.looked_up for column in columns})
    walk.notes.append(f"{place(node)}: the one-hot encoding of {', '.join(features)} times its weight is a lookup")
    return True


def _take_apart(walk: Walk, node: onnx.NodeProto, parts: list[str], weight: np.ndarray) -> _Parts:
    taken = _Parts([], [], [], np.zeros(weight.shape[1], np.float32))
    constant = taken.constant
    start = 0
    for part in parts:
        index = walk.index.get(part)
        width = index.atoms.shape[1] if index is not None else walk.shapes.of(part, node)[0][1]
        rows = weight[start : start + width]
        start += width
        if index is None:
            taken.values.append(part)
            taken.weights.append(rows)
            continue
        columns, numbers = _split_columns(walk, node, index, rows, taken.looked_up)
        constant = constant + columns
        if numbers:
            kept = [number for number, _ in numbers]
            value = walk.graph.fresh("numbers")
            found = [walk.sources.column(walk.atom(number)) for number in kept]
            walk.emit(value, found, Layout((-1, len(found)), 0, np.dtype(np.float32)))
            taken.values.append(value)
            taken.weights.append(rows[[at for _, at in numbers]])
    return _Parts(taken.looked_up, taken.values, taken.weights, constant)


def _split_columns(
    walk: Walk, node: onnx.NodeProto, index: Selection, rows: np.ndarray, looked_up: list[list[Column]]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Tables of the one-hot columns; the product of the constant ones, and which columns are numbers."""
    tables: dict[tuple[str, int], np.ndarray] = {}
    numbers: list[tuple[int, int]] = []
    constant = np.zeros(rows.shape[1], np.float32)
    for at, (number, offset) in enumerate(zip(index.atoms[0], index.offsets[0], strict=True)):
        constant = constant + np.float32(offset) * rows[at]
        if number < 0:
            continue
        atom = walk.atom(int(number))
        if atom.kind == "hot":
            key = (atom.feature, atom.position)
            table = tables.get(key)
            if table is None or atom.value >= len(table):
                grown = np.zeros((max(atom.value + 1, index.atoms.shape[1]), rows.shape[1]), np.float32)
                grown[: 0 if table is None else len(table)] = 0 if table is None else table
                tables[key] = table = grown
            if atom.value >= 0:  # no id is negative
                table[atom.value] += rows[at]
        elif atom.kind == "id":
            raise RewriteError(
                f"'{node.op_type}' reads the ids of '{atom.feature}' as numbers",
                where=place(node),
                hint="Look the ids up in an nn.Embedding.",
            )
        else:
            numbers.append((int(number), at))
    for (feature, position), table in tables.items():
        source = walk.graph.fresh("product")
        looked_up.append(walk.sources.lookup(feature, Block(source, table, made=True), position))
    return constant, numbers


def _rest(walk: Walk, taken: _Parts) -> str:
    """The product of what is not looked up."""
    value, result = taken.values[0], walk.graph.fresh("rest")
    if len(taken.values) > 1:
        value = walk.graph.fresh("joined")
        walk.nodes.append(helper.make_node("Concat", taken.values, [value], axis=1))
    weight = walk.graph.constant(np.concatenate(taken.weights), np.float32)
    walk.nodes.append(helper.make_node("MatMul", [value, weight], [result]))
    return result


def _emit(walk: Walk, columns: list[Column]) -> str:
    value, nodes = walk.sources.emit(columns)
    walk.nodes += nodes
    return value


def _add_up(walk: Walk, terms: list[str], result: str) -> None:
    total = terms[0]
    for term in terms[1:]:
        name = walk.graph.fresh("sum")
        walk.nodes.append(helper.make_node("Add", [total, term], [name]))
        total = name
    walk.nodes.append(helper.make_node("Identity", [total], [result]))


def _weight(walk: Walk, node: onnx.NodeProto) -> np.ndarray | None:
    """The constant matrix ``(in, out)`` that a product has on its right."""
    weight = walk.graph.constants.get(node.input[1])
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    return weight.T if node.op_type == "Gemm" and attribute(node, "transB", 0) else weight


def _is_hot(walk: Walk, name: str) -> bool:
    if name not in walk.index:
        return False
    return any(walk.atom(int(number)).kind == "hot" for number in np.unique(walk.index[name].atoms) if number >= 0)

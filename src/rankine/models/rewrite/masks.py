"""Comparisons of ids: masks of padding are rebuilt from the length, comparisons with one id are one-hot encodings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from rankine.models.rewrite.atoms import Atom, id_count
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import attribute
from rankine.models.rewrite.one_hot import define_hot
from rankine.models.rewrite.probe import ROWS
from rankine.models.schema import SequenceFeature

if TYPE_CHECKING:
    from rankine.models.rewrite.walk import Walk

__all__ = ["COMPARISONS", "rewrite_comparison", "rewrite_to_bool"]

Compare = Callable[[Any, Any], Any]

COMPARISONS: dict[str, Compare] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
_SOME_IDS = 1000
"""How many ids of a vocabulary of unknown size a comparison is tried on."""


def rewrite_comparison(walk: Walk, node: onnx.NodeProto) -> bool:
    """``ids == 0``, ``ids > 0``... of a sequence, or ``ids == range(n)`` of any ids."""
    compare = COMPARISONS[node.op_type]
    left, right = node.input
    if left in walk.index and right in walk.graph.constants:
        return _rewrite(walk, node, left, walk.graph.constants[right], compare)
    if right in walk.index and left in walk.graph.constants:
        constant = walk.graph.constants[left]
        return _rewrite(walk, node, right, constant, lambda ids, other: compare(other, ids))
    return False


def rewrite_to_bool(walk: Walk, node: onnx.NodeProto) -> bool:
    """``Cast(ids)`` to bool: whether they are not zero."""
    if attribute(node, "to") != onnx.TensorProto.BOOL:
        return False
    return _rewrite(walk, node, node.input[0], np.zeros((), np.int64), np.not_equal)


def _rewrite(walk: Walk, node: onnx.NodeProto, name: str, other: np.ndarray, compare: Compare) -> bool:
    kinds = {walk.atom(int(number)).kind for number in np.unique(walk.index[name].atoms) if number >= 0}
    if kinds != {"id"}:
        return False
    sequences = _is_sequence(walk, name)
    if sequences and other.size == 1:
        _define_mask(walk, node, name, other, compare)
        return True
    if node.op_type != "Equal" or other.dtype.kind not in "iuf":
        return False
    return define_hot(walk, node, name, other.astype(np.float64), None, np.dtype(np.bool_))


def _is_sequence(walk: Walk, name: str) -> bool:
    features = {walk.atom(int(number)).feature for number in np.unique(walk.index[name].atoms) if number >= 0}
    return all(isinstance(walk.sources.features[feature], SequenceFeature) for feature in features)


def _define_mask(walk: Walk, node: onnx.NodeProto, name: str, other: np.ndarray, compare: Compare) -> None:
    numbers, rows = [], []
    for size in range(len(ROWS)):
        decoded = walk.probes.decoded(name, size)
        if decoded is None:
            raise TypeError(f"{name}: checked to be a selection before")
        found, row, offsets = np.broadcast_arrays(*decoded, other)[:3]
        masks = [
            _mask(walk, node, int(number), float(offset), other, compare)
            for number, offset in zip(found.ravel(), offsets.ravel(), strict=True)
        ]
        numbers.append(np.array(masks, np.int64).reshape(found.shape))
        rows.append(row)
    walk.probes.define_from_codes(node.output[0], numbers, rows, np.dtype(np.bool_))
    walk.settle(node.output[0], np.dtype(np.bool_))
    walk.notes.append(f"{place(node)}: the mask of padding is rebuilt from the number of values")


def _mask(walk: Walk, node: onnx.NodeProto, number: int, offset: float, other: np.ndarray, compare: Compare) -> int:
    """The number of the atom that a compared id of a sequence becomes."""
    if number < 0:
        raise RewriteError("a mask of padding has constants in it", where=place(node))
    atom = walk.atom(number)
    pad = walk.sources.pads[atom.feature]
    ids = np.arange(id_count(walk.sources.features[atom.feature]) or _SOME_IDS)
    ids = ids[ids != pad]
    real = compare(ids + offset, other.ravel()[0])
    padded = bool(compare(pad + offset, other.ravel()[0]))
    if len(ids) and real.all() == real.any() and bool(real[0]) != padded:
        return walk.number(Atom("mask" if real[0] else "blank", atom.feature, atom.position))
    raise RewriteError(
        f"'{node.op_type}' compares the ids of '{atom.feature}' with {other.ravel()[0]}, which is not their padding",
        where=place(node),
        allowed=f"comparisons that tell the padding, id {pad}, from all other ids",
        hint="Set 'pad' under 'call' to the id that fills the sequence up, or look the ids up in an nn.Embedding.",
    )

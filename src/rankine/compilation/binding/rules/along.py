"""Operators that work along axes: sums, softmax, normalization, recurrent layers. Along the rows they are refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rankine.compilation.binding.dims import Rows, Shape, Unprovable, whole
from rankine.compilation.binding.facts import Out, Reading

__all__ = ["REDUCTIONS", "rules"]

REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
_MIXES = "it mixes rows"


def _reduce(read: Reading) -> list[Out]:
    shape, axes = read.shape(), read.axes(1, "axes")
    if not axes:
        if read.attribute("noop_with_empty_axes", 0):
            return [Out(shape)]
        axes = tuple(range(len(shape)))
    return [Out(_reduced(shape, axes, bool(read.attribute("keepdims", 1))))]


def _arg(read: Reading) -> list[Out]:
    shape = read.shape()
    axis = read.attribute("axis", 0) % len(shape)
    return [Out(_reduced(shape, (axis,), bool(read.attribute("keepdims", 1))), np.dtype(np.int64))]


def _along(read: Reading) -> list[Out]:
    """Softmax and its kin: shapes stay; before opset 13 the default axis was 1, since then the last."""
    shape = read.shape()
    _not_rows(shape, (read.attribute("axis", -1) % len(shape),))
    return [Out(shape)]


def _cumulative(read: Reading) -> list[Out]:
    shape, axis = read.shape(), read.constant(1)
    if axis is None:
        raise Unprovable(_MIXES)
    _not_rows(shape, (int(axis.reshape(())) % len(shape),))
    return [Out(shape)]


def _top(read: Reading) -> list[Out]:
    shape, count = read.shape(), read.constant(1)
    if count is None:
        raise Unprovable(_MIXES)
    axis = read.attribute("axis", -1) % len(shape)
    _not_rows(shape, (axis,))
    kept = (*shape[:axis], int(count.reshape(())), *shape[axis + 1 :])
    return [Out(kept), Out(kept, np.dtype(np.int64))]


def _layer_norm(read: Reading) -> list[Out]:
    """Normalized over ``axis`` and all after it."""
    shape = read.shape()
    first = read.attribute("axis", -1) % len(shape)
    _not_rows(shape, range(first, len(shape)))
    for position in range(1, len(read.facts)):
        read.constant(position)
    if len(read.node.output) > 1:
        raise Unprovable("its statistics are read")
    return [Out(shape)]


def _batch_norm(read: Reading) -> list[Out]:
    """With statistics from training it is one factor and one summand a channel (axis 1)."""
    shape = read.shape()
    if read.attribute("training_mode", 0) or len(read.node.output) > 1:
        raise Unprovable("its statistics are those of the batch: " + _MIXES)
    if len(shape) < 2 or isinstance(shape[1], Rows):
        raise Unprovable(_MIXES)
    for position in range(1, 5):
        read.constant(position)
    return [Out(shape)]


def _recurrent(read: Reading) -> list[Out]:
    """GRU, LSTM, RNN over ``(steps, rows, width)``, layout 0: each row has a state of its own."""
    steps, rows, _ = read.shape()
    if read.attribute("layout", 0) or not isinstance(rows, Rows) or isinstance(steps, Rows):
        raise Unprovable("its steps go along the rows")
    for position in (1, 2, 3):
        read.constant(position)
    lengths = read.facts[4] if len(read.facts) > 4 else None
    states = [fact for fact in read.facts[5:7] if fact is not None]
    if lengths is not None and lengths.shape != (rows,):
        raise Unprovable("its lengths are not one a row")
    if any(state.shape is None or state.shape[1:2] != (rows,) for state in states):
        raise Unprovable("its first state is not one a row")
    hidden, directions = read.attribute("hidden_size"), 2 if read.attribute("direction") == "bidirectional" else 1
    outs = [Out((steps, directions, rows, hidden)), *[Out((directions, rows, hidden))] * 2]
    return outs[: len(read.node.output)]


def _reduced(shape: Shape, axes: tuple[int, ...], keep: bool) -> Shape:
    _not_rows(shape, axes)
    return tuple(1 if axis in axes else dim for axis, dim in enumerate(shape) if keep or axis not in axes)


def _not_rows(shape: Shape, axes: range | tuple[int, ...]) -> None:
    try:
        whole([shape[axis] for axis in axes])
    except Unprovable:
        raise Unprovable(_MIXES) from None


rules: Mapping[str, object] = {
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), _along),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent),
    "BatchNormalization": _batch_norm,
    "CumSum": _cumulative,
    "TopK": _top,
}

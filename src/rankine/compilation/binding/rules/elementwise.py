"""Operators that work element by element: rows stay where they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import helper

from rankine.compilation.binding.dims import Rows, Unprovable, broadcast
from rankine.compilation.binding.facts import Out, Reading

__all__ = ["COMPARISONS", "ROUNDING", "UNARY", "elementwise", "rules"]

UNARY = (
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
_NARY = (
    "Add",
    "And",
    "BitShift",
    "Div",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "PRelu",
    "Sub",
    "Sum",
    "Xor",
)
COMPARISONS = (
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Not",
)
ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def elementwise(read: Reading) -> list[Out]:
    """All inputs broadcast to the output."""
    return [Out(broadcast(read.shapes()))]


def _compared(read: Reading) -> list[Out]:
    return [Out(broadcast(read.shapes()), np.dtype(bool))]


def _cast(read: Reading) -> list[Out]:
    fact = read.facts[0]
    content = None if fact is None else fact.content
    return [Out(read.shape(), helper.tensor_dtype_to_np_dtype(read.attribute("to")), content)]


def _where(read: Reading) -> list[Out]:
    fact = read.facts[1]
    return [Out(broadcast(read.shapes()), None if fact is None else fact.dtype)]


def _dropout(read: Reading) -> list[Out]:
    training = read.constant(2)
    if training is not None and bool(training):
        raise Unprovable("it draws numbers by chance")
    return [Out(read.shape()), Out(read.shape(), np.dtype(bool))][: len(read.node.output)]


def _rounding(read: Reading) -> list[Out]:
    """Scale and zero point are constants, of all elements or along an axis that is not that of the rows."""
    shape, scale, zero = read.shape(), read.constant(1), read.constant(2)
    if scale is not None and scale.size > 1:
        axis = read.attribute("axis", 1) % len(shape)
        if isinstance(shape[axis], Rows) or read.attribute("block_size", 0):
            raise Unprovable("its scales differ from row to row")
    if read.node.op_type == "DequantizeLinear":
        return [Out(shape, np.dtype(np.float32))]
    return [Out(shape, np.dtype(np.uint8) if zero is None else zero.dtype)]


rules: Mapping[str, object] = {
    **dict.fromkeys([*UNARY, *_NARY], elementwise),
    **dict.fromkeys(COMPARISONS, _compared),
    **dict.fromkeys(ROUNDING, _rounding),
    "Cast": _cast,
    "Dropout": _dropout,
    "Where": _where,
}

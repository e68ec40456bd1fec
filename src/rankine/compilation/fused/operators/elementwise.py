"""Operators that work element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np

from rankine.compilation.fused.operators.call import Call
from rankine.compilation.fused.program import Binary, Unary
from rankine.compilation.fused.values import Unsupported, Value
from rankine.compilation.fused.views import View, constant_view

__all__ = ["lowerings"]

_SINGLE = {
    "Abs": Unary.ABS,
    "Erf": Unary.ERF,
    "Exp": Unary.EXP,
    "Log": Unary.LOG,
    "Neg": Unary.NEG,
    "Not": Unary.NOT,
    "Reciprocal": Unary.RECIPROCAL,
    "Relu": Unary.RELU,
    "Sigmoid": Unary.SIGMOID,
    "Softplus": Unary.SOFTPLUS,
    "Sqrt": Unary.SQRT,
    "Tanh": Unary.TANH,
}
_PAIRED = {
    "Add": Binary.ADD,
    "And": Binary.AND,
    "Div": Binary.DIV,
    "Equal": Binary.EQUAL,
    "Greater": Binary.GREATER,
    "GreaterOrEqual": Binary.GREATER_EQUAL,
    "Less": Binary.LESS,
    "LessOrEqual": Binary.LESS_EQUAL,
    "Max": Binary.MAX,
    "Min": Binary.MIN,
    "Mul": Binary.MUL,
    "Or": Binary.OR,
    "PRelu": Binary.PRELU,
    "Sub": Binary.SUB,
    "Sum": Binary.ADD,
}


def _single(kind: Unary) -> Callable[[Call], list[Value]]:
    return lambda call: [Value(call.build.unary(kind, call.view()))]


def _paired(kind: Binary) -> Callable[[Call], list[Value]]:
    def lower(call: Call) -> list[Value]:
        first, *others = call.views()
        return [Value(reduce(lambda left, right: call.build.binary(kind, left, right), others, first))]

    return lower


def _power(call: Call) -> list[Value]:
    exponent = call.constants.get(1)
    if exponent is not None and exponent.size and (exponent == exponent.reshape(-1)[0]).all():
        number = float(exponent.reshape(-1)[0])
        if number in (1, 2, 0.5, -1) and np.broadcast_shapes(call.view().dims, exponent.shape) == call.view().dims:
            kind = {1: Unary.IDENTITY, 2: Unary.SQUARE, 0.5: Unary.SQRT, -1: Unary.RECIPROCAL}[number]
            return [Value(call.view() if number == 1 else call.build.unary(kind, call.view()))]
    return [Value(call.build.binary(Binary.POW, call.view(0), call.view(1)))]


def _clip(call: Call) -> list[Value]:
    low = call.scalar(1, call.attribute("min", -math.inf))
    high = call.scalar(2, call.attribute("max", math.inf))
    if (low, high) == (0, math.inf):
        return [Value(call.build.unary(Unary.RELU, call.view()))]
    return [Value(call.build.unary(Unary.CLIP, call.view(), low, high))]


def _leaky(call: Call) -> list[Value]:
    return [Value(call.build.unary(Unary.LEAKY_RELU, call.view(), call.attribute("alpha", 0.01)))]


def _elu(call: Call) -> list[Value]:
    return [Value(call.build.unary(Unary.ELU, call.view(), call.attribute("alpha", 1.0)))]


def _gelu(call: Call) -> list[Value]:
    if call.attribute("approximate", "none") != "none":
        raise Unsupported("only the exact form is known")
    return [Value(call.build.unary(Unary.GELU, call.view()))]


def _hard_sigmoid(call: Call) -> list[Value]:
    line = call.build.unary(Unary.AFFINE, call.view(), call.attribute("alpha", 0.2), call.attribute("beta", 0.5))
    return [Value(call.build.unary(Unary.CLIP, line, 0.0, 1.0))]


def _cast(call: Call) -> list[Value]:
    """Between float32 and bool: truth is 1.0 or 0.0 here."""
    source, target = np.dtype(call.given[0]), np.dtype(call.dtypes[0])
    if source == target or (source == np.dtype(bool) and target == np.dtype(np.float32)):
        return [call.value()]
    if source == np.dtype(np.float32) and target == np.dtype(bool):
        zero = constant_view(np.zeros((), np.float32))
        return [Value(call.build.unary(Unary.NOT, call.build.binary(Binary.EQUAL, call.view(), zero)))]
    raise Unsupported(f"it makes {target} of {source}")


def _where(call: Call) -> list[Value]:
    return [Value(call.build.where(call.view(0), call.view(1), call.view(2)))]


def _identity(call: Call) -> list[Value]:
    return [call.value()]


def _batch_norm(call: Call) -> list[Value]:
    """A factor and a summand for each channel, which is axis 1; a linear layer before it takes both."""
    scale, bias, mean, variance = (np.asarray(call.constant(position), np.float64) for position in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + call.attribute("epsilon", 1e-5))
    shape = (-1, *(1,) * (len(call.view().dims) - 2))
    scaled = call.build.binary(Binary.MUL, call.view(), _channels(factor, shape))
    return [Value(call.build.binary(Binary.ADD, scaled, _channels(bias - mean * factor, shape)))]


def _channels(numbers: np.ndarray, shape: tuple[int, ...]) -> View:
    return constant_view(numbers.astype(np.float32).reshape(shape))


lowerings: Mapping[str, Callable[[Call], list[Value]]] = {
    **{operator: _single(kind) for operator, kind in _SINGLE.items()},
    **{operator: _paired(kind) for operator, kind in _PAIRED.items()},
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": _cast,
    "Clip": _clip,
    "Dropout": _identity,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Identity": _identity,
    "LeakyRelu": _leaky,
    "Pow": _power,
    "Where": _where,
}

"""Functions of numbers, scalar or in vectors: those that LLVM has no instruction for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

from rankine.compilation.fused.program import Binary, Unary
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, cast, f32, i32, spread

__all__ = ["BINARY", "SCALAR", "UNARY", "Numbers", "bounded", "exponential", "larger", "smaller"]

Numbers = tuple[float, ...]
_LARGEST, _SMALLEST = 88.3762626647949, -87.3365478515625
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_SERIES = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_SMALL_SQUARE = 0.0225


def exponential(x: Expr, lanes: int) -> Expr:
    """``exp``, after Cephes' ``expf``: 2^n e^r with |r| <= ln 2 / 2, within two units in the last place.

    What is no number stays none: it passes the bounds, and the sums of the series keep it.
    """

    def number(value: float) -> Expr:
        return spread(f32(value), lanes)

    x = bounded(x, number(_SMALLEST), number(_LARGEST))
    n = tirx.nearbyint(x * number(1 / math.log(2)))
    r = x - n * number(_LN2_HIGH) - n * number(_LN2_LOW)
    series = reduce(lambda sums, factor: tirx.op.fma(sums, r, number(factor)), _SERIES[1:], number(_SERIES[0]))
    power = tirx.shift_left(cast("int32", n, lanes) + spread(i32(127), lanes), spread(i32(23), lanes))
    kind = "float32" if lanes == 1 else f"float32x{lanes}"
    return (tirx.op.fma(series, r * r, r) + number(1)) * tirx.reinterpret(kind, power)


def bounded(x: Expr, low: Expr, high: Expr) -> Expr:
    """``x``, or the bound that it is beyond; what is no number stays none, unlike with ``tirx.max``."""
    x = tirx.Select(x > high, high, x)
    return tirx.Select(x < low, low, x)


def larger(x: Expr, y: Expr) -> Expr:
    """The maximum; no number where either is none, which ``tirx.max`` drops."""
    return tirx.Select(x < y, y, tirx.Select(x >= y, x, x + y))


def smaller(x: Expr, y: Expr) -> Expr:
    """The minimum; no number where either is none, which ``tirx.min`` drops."""
    return tirx.Select(x > y, y, tirx.Select(x <= y, x, x + y))


def _sigmoid(x: Expr, lanes: int) -> Expr:
    one = spread(f32(1), lanes)
    return one / (one + exponential(spread(f32(0), lanes) - x, lanes))


def _tanh(x: Expr, lanes: int) -> Expr:
    """Small arguments by the series, as the quotient cancels there."""

    def number(value: float) -> Expr:
        return spread(f32(value), lanes)

    square = x * x
    inner = number(0.13333333) - square * number(0.05396825)
    series = x * (number(1) + square * (number(-0.33333333) + square * inner))
    quotient = number(1) - number(2) / (exponential(x * number(2), lanes) + number(1))
    return tirx.Select(square < number(_SMALL_SQUARE), series, quotient)


def _library(name: str, x: Expr) -> Expr:
    """A function of C's library, of one number."""
    return tirx.call_pure_extern("float32", name, x)


def _truth(condition: Expr, lanes: int) -> Expr:
    return tirx.Select(condition, spread(f32(1), lanes), spread(f32(0), lanes))


def _gelu(x: Expr) -> Expr:
    return f32(0.5) * x * (f32(1) + _library("erff", x * f32(math.sqrt(0.5))))


def _softplus(x: Expr) -> Expr:
    return tirx.max(x, f32(0)) + _library("log1pf", _library("expf", f32(0) - tirx.abs(x)))


UNARY: Mapping[int, Callable[[Expr, Numbers, int], Expr]] = {
    Unary.RELU: lambda x, _, lanes: tirx.Select(x < spread(f32(0), lanes), spread(f32(0), lanes), x),
    Unary.SIGMOID: lambda x, _, lanes: _sigmoid(x, lanes),
    Unary.TANH: lambda x, _, lanes: _tanh(x, lanes),
    Unary.EXP: lambda x, _, lanes: exponential(x, lanes),
    Unary.LOG: lambda x, _, lanes: _library("logf", x),
    Unary.SQRT: lambda x, _, lanes: tirx.sqrt(x),
    Unary.NEG: lambda x, _, lanes: spread(f32(0), lanes) - x,
    Unary.ABS: lambda x, _, lanes: tirx.max(x, spread(f32(0), lanes) - x),
    Unary.ERF: lambda x, _, lanes: _library("erff", x),
    Unary.RECIPROCAL: lambda x, _, lanes: spread(f32(1), lanes) / x,
    Unary.NOT: lambda x, _, lanes: _truth(tirx.EQ(x, spread(f32(0), lanes)), lanes),
    Unary.CLIP: lambda x, given, lanes: bounded(x, spread(f32(given[0]), lanes), spread(f32(given[1]), lanes)),
    Unary.LEAKY_RELU: lambda x, given, lanes: tirx.Select(
        x < spread(f32(0), lanes), x * spread(f32(given[0]), lanes), x
    ),
    Unary.GELU: lambda x, _, lanes: _gelu(x),
    Unary.AFFINE: lambda x, given, lanes: x * spread(f32(given[0]), lanes) + spread(f32(given[1]), lanes),
    Unary.SQUARE: lambda x, _, lanes: x * x,
    Unary.IDENTITY: lambda x, _, lanes: x,
    Unary.SOFTPLUS: lambda x, _, lanes: _softplus(x),
    Unary.ELU: lambda x, given, lanes: tirx.Select(x > f32(0), x, f32(given[0]) * _library("expm1f", x)),
}
"""By kind: the value, the step's numbers and the lanes to the result."""

BINARY: Mapping[int, Callable[[Expr, Expr, int], Expr]] = {
    Binary.ADD: lambda x, y, lanes: x + y,
    Binary.SUB: lambda x, y, lanes: x - y,
    Binary.MUL: lambda x, y, lanes: x * y,
    Binary.DIV: lambda x, y, lanes: x / y,
    Binary.MAX: lambda x, y, lanes: larger(x, y),
    Binary.MIN: lambda x, y, lanes: smaller(x, y),
    Binary.POW: lambda x, y, lanes: tirx.call_pure_extern("float32", "powf", x, y),
    Binary.LESS: lambda x, y, lanes: _truth(x < y, lanes),
    Binary.LESS_EQUAL: lambda x, y, lanes: _truth(x <= y, lanes),
    Binary.GREATER: lambda x, y, lanes: _truth(x > y, lanes),
    Binary.GREATER_EQUAL: lambda x, y, lanes: _truth(x >= y, lanes),
    Binary.EQUAL: lambda x, y, lanes: _truth(tirx.EQ(x, y), lanes),
    Binary.AND: lambda x, y, lanes: tirx.min(_truth(_is(x, lanes), lanes), _truth(_is(y, lanes), lanes)),
    Binary.OR: lambda x, y, lanes: tirx.max(_truth(_is(x, lanes), lanes), _truth(_is(y, lanes), lanes)),
    Binary.PRELU: lambda x, y, lanes: tirx.Select(x < spread(f32(0), lanes), x * y, x),
}

SCALAR = frozenset({Unary.LOG, Unary.ERF, Unary.GELU, Unary.SOFTPLUS, Unary.ELU})
"""Unary kinds that call C's library, one number at a time; of the binary ones, it is the power."""


def _is(x: Expr, lanes: int) -> Expr:
    return tirx.NE(x, spread(f32(0), lanes))

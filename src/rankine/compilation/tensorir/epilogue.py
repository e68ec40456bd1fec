"""What follows the sums of a linear layer, in registers: scale, bias, addend, activation, factor, added, rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Function, cast, f32, spread

__all__ = ["POINTERS", "Epilogue", "rounded"]

POINTERS = ("scale", "correction", "bias", "slope", "quant", "target", "codes", "addend", "factor", "added")
"""Of a linear function's, those that are read and written here: numbers by column, results, and other values."""
_RELU, _PRELU = 1, 2


@dataclass(frozen=True)
class Epilogue:
    """What is done with each sum; equal ones are one function.

    Attributes:
        integer: sums are int32, to be corrected and scaled.
        kind: 0 for no activation, 1 for ReLU, 2 for one with a slope for each column.
        bias: whether there is one.
        strides: elements from row to row of ``target``, ``codes``, ``addend``, ``factor`` and ``added``, those that
            are there.
        zero: of the codes.
    """

    integer: bool
    kind: int
    bias: bool
    strides: tuple[tuple[str, int], ...]
    zero: float

    def columns(self, function: Function, column: Expr, lanes: int) -> Mapping[str, Expr]:
        """The numbers of the columns from ``column`` on, each read once."""
        names = [
            *(["scale", "correction"] if self.integer else []),
            *(["bias"] if self.bias else []),
            *(["slope"] if self.kind == _PRELU else []),
            *(["quant"] if "codes" in dict(self.strides) else []),
        ]
        elements = {"correction": "int32"}
        return {
            name: function.bind(function[name].load(elements.get(name, "float32"), column, lanes), name)
            for name in names
        }

    def finish(
        self, function: Function, sums: Expr, given: Mapping[str, Expr], row: Expr, column: Expr, lanes: int, valid: int
    ) -> None:
        """Write what becomes of a vector of sums.

        Args:
            given: of :meth:`columns`.
            row, column: of the vector's first sum.
            valid: lanes that are columns of the layer.
        """
        strides = dict(self.strides)
        value = sums
        if self.integer:
            value = cast("float32", sums + given["correction"], lanes) * given["scale"]
        if self.bias:
            value = value + given["bias"]
        if "addend" in strides:
            value = value + function["addend"].load("float32", row * strides["addend"] + column, lanes)
        value = self._activated(function.bind(value), given, lanes)
        if "factor" in strides:
            value = value * function["factor"].load("float32", row * strides["factor"] + column, lanes)
        if "added" in strides:
            value = value + function["added"].load("float32", row * strides["added"] + column, lanes)
        value = function.bind(value)
        if "target" in strides:
            _write(function, "target", "float32", value, row * strides["target"] + column, lanes, valid)
        if "codes" in strides:
            codes = function.bind(rounded(value, given["quant"], self.zero, lanes))
            _write(function, "codes", "uint8", codes, row * strides["codes"] + column, lanes, valid)

    def _activated(self, value: Expr, given: Mapping[str, Expr], lanes: int) -> Expr:
        zero = spread(f32(0), lanes)
        if self.kind == _RELU:
            return tirx.Select(value < zero, zero, value)  # what is no number stays none, unlike with a maximum
        if self.kind == _PRELU:
            return tirx.Select(value < zero, value * given["slope"], value)
        return value


def rounded(value: Expr, inverse_step: Expr, zero: float, lanes: int) -> Expr:
    """Codes u8 of numbers: half to even, then the zero point, then saturated."""
    whole = tirx.nearbyint(value * inverse_step) + spread(f32(zero), lanes)
    bounded = tirx.min(tirx.max(whole, spread(f32(0), lanes)), spread(f32(255), lanes))
    return cast("uint8", cast("int32", bounded, lanes), lanes)


def _write(function: Function, name: str, element: str, value: Expr, index: Expr, lanes: int, valid: int) -> None:
    if valid >= lanes:
        function.store(function[name], element, value, index, lanes)
        return
    for lane in range(valid):  # what lies behind the layer's columns is another value's
        function.store(function[name], element, tirx.Shuffle([value], [lane]), index + lane)

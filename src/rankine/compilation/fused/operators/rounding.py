"""``QuantizeLinear`` and ``DequantizeLinear``: activations u8 with one scale, weights s8 and symmetric."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from rankine.compilation.fused.operators.call import Call
from rankine.compilation.fused.values import Codes, RoundedWeight, Unsupported, Value
from rankine.compilation.fused.views import constant_view

__all__ = ["lowerings"]


def _quantize(call: Call) -> list[Value]:
    step, zero = _scale(call)
    if np.dtype(call.dtypes[0]) != np.dtype(np.uint8) or call.attribute("output_dtype", 0) not in (
        0,
        TensorProto.UINT8,
    ):
        raise Unsupported("it does not round to uint8, as activations have to be")
    return [Value(codes=Codes(call.build.quantize(call.view(), step, zero)))]


def _dequantize(call: Call) -> list[Value]:
    if call.attribute("output_dtype", 0) not in (0, TensorProto.FLOAT):
        raise Unsupported("it does not give float32")
    if 0 in call.constants:
        return [_weight(call)]
    codes = call.value().codes
    if codes is None:
        raise Unsupported("what it reads is not rounded to uint8")
    step, zero = _scale(call)
    return [Value(codes=Codes(codes.view, step, zero))]


def _scale(call: Call) -> tuple[float, int]:
    """Step and zero point of all elements."""
    step, zero = call.constant(1), call.constant(2)
    if step is None or step.size != 1:
        raise Unsupported("its scales differ from column to column; activations are rounded with one")
    if step.dtype != np.float32:
        raise Unsupported(f"its scale is {step.dtype}")
    return float(step.reshape(())), 0 if zero is None else int(zero.reshape(()))


def _weight(call: Call) -> Value:
    """A constant: its numbers, and its codes where they are s8 and symmetric."""
    codes, scale, zero = (call.constant(position) for position in (0, 1, 2))
    if codes is None or scale is None or call.attribute("block_size", 0) or scale.dtype != np.float32:
        raise Unsupported("its scales differ within a column, or are no float32")
    axis = call.attribute("axis", 1) % max(codes.ndim, 1)
    shape = [-1 if at == axis else 1 for at in range(codes.ndim)]
    scales = scale.reshape(shape) if scale.size > 1 else scale.reshape(())
    zeros = np.zeros((), np.int64) if zero is None else zero.astype(np.int64)
    zeros = zeros.reshape(shape) if zeros.size > 1 else zeros.reshape(())
    numbers = ((codes.astype(np.int64) - zeros) * scales.astype(np.float64)).astype(np.float32)
    symmetric = codes.dtype == np.int8 and not zeros.any()
    return Value(constant_view(numbers), weight=RoundedWeight(codes, scales) if symmetric else None)


lowerings: Mapping[str, Callable[[Call], list[Value]]] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}

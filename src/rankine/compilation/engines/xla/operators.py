"""ONNX operators in JAX, as far as ranking models use them.

Semantics are those of opset 21 of the default domain. Every function takes the node's attributes and its inputs
(arrays; None where an optional one is left out; NumPy arrays where the values decide on shapes) and returns its output,
or a tuple of them. Products are of full FP32: a TPU's default would round their inputs to bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax import numpy as jnp

from rankine.models.node_forms import (
    Attributes,
    Operator,
    binary,
    fold,
    ints,
    reduced_axes,
    reshaped,
    slices,
    split_sizes,
    unary,
)

__all__ = ["DTYPES", "OPERATORS"]


_EXACT = lax.Precision.HIGHEST
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int32, 9: np.bool_, 10: np.float16}
"""By ONNX's number. JAX has no int64 unless it is asked for: indices are int32."""


def _gemm(attributes: Attributes, a: Array, b: Array, c: Array | None = None) -> Array:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    product = jnp.matmul(a, b, precision=_EXACT)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = product if alpha == 1.0 else alpha * product
    return product if c is None else product + (c if beta == 1.0 else beta * c)


def _reshape(attributes: Attributes, data: Array, shape: np.ndarray) -> Array:
    return data.reshape(reshaped(attributes, data.shape, shape))


def _slice(
    attributes: Attributes,
    data: Array,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Array:
    for axis, along in slices(starts, ends, axes, steps):
        taken = range(*along.indices(_size(data, axis)))
        data = jnp.take(data, np.array(taken, np.int32), axis=axis) if along.step < 0 else _between(data, axis, taken)
    return data


def _between(data: Array, axis: int, taken: range) -> Array:
    end = taken[-1] + 1 if len(taken) else taken.start
    return lax.slice_in_dim(data, taken.start, end, taken.step, axis)


def _size(data: Array, axis: int) -> int:
    size = data.shape[axis]
    if not isinstance(size, int):
        raise TypeError("takes a part of the rows, whose number is open")
    return size


def _gather(attributes: Attributes, data: Array, indices: Array) -> Array:
    axis = attributes.get("axis", 0) % data.ndim
    return jnp.take(data, _from_the_front(indices, data.shape[axis]), axis=axis, mode="clip")


def _gather_elements(attributes: Attributes, data: Array, indices: Array) -> Array:
    axis = attributes.get("axis", 0) % data.ndim
    return jnp.take_along_axis(data, _from_the_front(indices, data.shape[axis]), axis=axis, mode="clip")


def _from_the_front(indices: Array, size: Any) -> Array:
    return jnp.where(indices < 0, indices + size, indices).astype(jnp.int32)


def _split(attributes: Attributes, data: Array, sizes: np.ndarray | None = None) -> tuple[Array, ...]:
    axis = attributes.get("axis", 0) % data.ndim
    parts = split_sizes(attributes, 0 if sizes is not None else _size(data, axis), sizes)
    ends = np.cumsum(parts).tolist()
    return tuple(lax.slice_in_dim(data, end - part, end, axis=axis) for part, end in zip(parts, ends, strict=True))


def _squeeze(attributes: Attributes, data: Array, axes: np.ndarray | None = None) -> Array:
    return jnp.squeeze(data, None if axes is None else tuple(ints(axes)))


def _reduce(operation: Callable[..., Array]) -> Operator:
    def run(attributes: Attributes, data: Array, axes: np.ndarray | None = None) -> Array:
        wanted = reduced_axes(attributes, data.ndim, axes)
        return operation(data, axis=wanted, keepdims=bool(attributes.get("keepdims", 1))) if wanted else data

    return run


def _expand(attributes: Attributes, data: Array, shape: np.ndarray) -> Array:
    return jnp.broadcast_to(data, jnp.broadcast_shapes(data.shape, tuple(ints(shape))))


def _clip(attributes: Attributes, data: Array, low: Array | None = None, high: Array | None = None) -> Array:
    data = data if low is None else jnp.maximum(data, low)
    return data if high is None else jnp.minimum(data, high)


def _batch_normalization(
    attributes: Attributes, data: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> Array:
    def along_channels(values: Array) -> Array:
        return values.reshape((1, -1) + (1,) * (data.ndim - 2))

    factor = scale / jnp.sqrt(variance + attributes.get("epsilon", 1e-5))
    return (data - along_channels(mean)) * along_channels(factor) + along_channels(bias)


def _layer_normalization(attributes: Attributes, data: Array, scale: Array, bias: Array | None = None) -> Array:
    axes = tuple(range(attributes.get("axis", -1) % data.ndim, data.ndim))
    centered = data - data.mean(axes, keepdims=True)
    variance = jnp.square(centered).mean(axes, keepdims=True)
    found = centered / jnp.sqrt(variance + attributes.get("epsilon", 1e-5)) * scale
    return found if bias is None else found + bias


def _conv(attributes: Attributes, data: Array, weight: Array, bias: Array | None = None) -> Array:
    spatial = weight.ndim - 2
    pads = attributes.get("pads", [0] * (2 * spatial))
    found = lax.conv_general_dilated(
        data,
        weight,
        window_strides=attributes.get("strides", [1] * spatial),
        padding=[(pads[axis], pads[spatial + axis]) for axis in range(spatial)],
        rhs_dilation=attributes.get("dilations", [1] * spatial),
        feature_group_count=attributes.get("group", 1),
        precision=_EXACT,
    )
    return found if bias is None else found + bias.reshape((1, -1) + (1,) * spatial)


def _pad(
    attributes: Attributes,
    data: Array,
    pads: np.ndarray,
    value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> Array:
    along = [axis % data.ndim for axis in ints(axes)] if axes is not None else list(range(data.ndim))
    amounts = ints(pads)
    both = [(0, 0, 0)] * data.ndim
    for position, axis in enumerate(along):
        both[axis] = (amounts[position], amounts[len(along) + position], 0)
    return lax.pad(data, jnp.asarray(0 if value is None else value.item(), data.dtype), both)


def _top_k(attributes: Attributes, data: Array, count: np.ndarray) -> tuple[Array, Array]:
    axis = attributes.get("axis", -1)
    moved = jnp.moveaxis(data, axis, -1)
    sign = 1 if attributes.get("largest", 1) else -1
    values, indices = lax.top_k(sign * moved, ints(count)[0])
    return jnp.moveaxis(sign * values, -1, axis), jnp.moveaxis(indices, -1, axis)


def _pow(attributes: Attributes, base: Array, exponent: Any) -> Array:
    if isinstance(exponent, np.ndarray) and exponent.size == 1 and float(exponent.item()).is_integer():
        shape = jnp.broadcast_shapes(base.shape, exponent.shape)
        return jnp.broadcast_to(lax.integer_pow(base, int(exponent.item())), shape)
    return jnp.power(base, exponent)


def _divide(attributes: Attributes, a: Array, b: Array) -> Array:
    return a / b if jnp.issubdtype(a.dtype, jnp.floating) else lax.div(*jnp.broadcast_arrays(a, b))


def _constant_of_shape(attributes: Attributes, shape: np.ndarray) -> Array:
    value = attributes.get("value")
    return jnp.full(ints(shape), 0.0 if value is None else value.reshape(-1)[0])


def _flatten(attributes: Attributes, data: Array) -> Array:
    axis = attributes.get("axis", 1)
    if axis == 0:
        return data.reshape(1, -1)
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _gelu(attributes: Attributes, data: Array) -> Array:
    return jax.nn.gelu(data, approximate=attributes.get("approximate", "none") == "tanh")


def _selu(attributes: Attributes, data: Array) -> Array:
    alpha, gamma = attributes.get("alpha", 1.6732632), attributes.get("gamma", 1.0507010)
    return gamma * jnp.where(data > 0, data, alpha * jnp.expm1(jnp.minimum(data, 0)))


def _transpose(attributes: Attributes, data: Array) -> Array:
    return jnp.transpose(data, attributes.get("perm"))


def _einsum(attributes: Attributes, *parts: Array) -> Array:
    return jnp.einsum(attributes["equation"], *parts, precision=_EXACT)


def _sum_square(data: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    return jnp.square(data).sum(axis, keepdims=keepdims)


_REDUCTIONS: Mapping[str, Callable[..., Array]] = {
    "L2": lambda data, axis, keepdims: jnp.sqrt(_sum_square(data, axis, keepdims)),
    "Max": jnp.max,
    "Mean": jnp.mean,
    "Min": jnp.min,
    "Prod": jnp.prod,
    "Sum": jnp.sum,
    "SumSquare": _sum_square,
}
OPERATORS: Mapping[str, Operator] = {
    "Abs": unary(jnp.abs),
    "Add": binary(jnp.add),
    "And": binary(jnp.logical_and),
    "BatchNormalization": _batch_normalization,
    "Cast": lambda attributes, data: data.astype(DTYPES[attributes["to"]]),
    "CastLike": lambda attributes, data, like: data.astype(like.dtype),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: jnp.concatenate(parts, axis=attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Einsum": _einsum,
    "Elu": lambda attributes, data: jax.nn.elu(data, attributes.get("alpha", 1.0)),
    "Equal": binary(jnp.equal),
    "Erf": unary(lax.erf),
    "Exp": unary(jnp.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Greater": binary(jnp.greater),
    "GreaterOrEqual": binary(jnp.greater_equal),
    "HardSigmoid": lambda attributes, data: jnp.clip(
        attributes.get("alpha", 0.2) * data + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "Identity": unary(lambda data: data),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda attributes, data: jnp.where(data >= 0, data, attributes.get("alpha", 0.01) * data),
    "Less": binary(jnp.less),
    "LessOrEqual": binary(jnp.less_equal),
    "Log": unary(jnp.log),
    "LogSoftmax": lambda attributes, data: jax.nn.log_softmax(data, attributes.get("axis", -1)),
    "MatMul": lambda attributes, a, b: jnp.matmul(a, b, precision=_EXACT),
    "Max": fold(jnp.maximum),
    "Min": fold(jnp.minimum),
    "Mul": binary(jnp.multiply),
    "Neg": unary(jnp.negative),
    "Not": unary(jnp.logical_not),
    "Or": binary(jnp.logical_or),
    "PRelu": lambda attributes, data, slope: jnp.where(data >= 0, data, data * slope),
    "Pad": _pad,
    "Pow": _pow,
    "Reciprocal": unary(jnp.reciprocal),
    **{f"Reduce{name}": _reduce(operation) for name, operation in _REDUCTIONS.items()},
    "Relu": unary(lambda data: jnp.maximum(data, 0)),
    "Reshape": _reshape,
    "Selu": _selu,
    "Sigmoid": unary(jax.nn.sigmoid),
    "Slice": _slice,
    "Softmax": lambda attributes, data: jax.nn.softmax(data, attributes.get("axis", -1)),
    "Softplus": unary(jax.nn.softplus),
    "Split": _split,
    "Sqrt": unary(jnp.sqrt),
    "Squeeze": _squeeze,
    "Sub": binary(jnp.subtract),
    "Sum": fold(jnp.add),
    "Tanh": unary(jnp.tanh),
    "Tile": lambda attributes, data, repeats: jnp.tile(data, ints(repeats)),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": lambda attributes, data, axes: jnp.expand_dims(data, tuple(ints(axes))),
    "Where": lambda attributes, chosen, a, b: jnp.where(chosen, a, b),
}

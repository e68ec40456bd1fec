"""ONNX operators in PyTorch, as far as ranking models use them, so that gradients flow through an exported graph.

Semantics are those of opset 21 of the default domain. Every function takes the node's attributes and its inputs
(tensors; None where an optional one is left out) and returns its output, or a tuple of them. Inputs that say how, not
what (``SIZES``), may also be arrays: a tracer sees their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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

Sizes = Tensor | np.ndarray

DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.t() if attributes.get("transA") else a
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if c is not None and c.dim() == 1 and attributes.get("transB") and alpha == beta == 1.0:
        return functional.linear(a, b, c)
    product: Tensor = alpha * (a @ (b.t() if attributes.get("transB") else b))
    return product if c is None else product + beta * c


def _reshape(attributes: Attributes, data: Tensor, shape: Sizes) -> Tensor:
    return data.reshape(reshaped(attributes, data.shape, shape))


def _slice(
    attributes: Attributes, data: Tensor, starts: Sizes, ends: Sizes, axes: Sizes | None, steps: Sizes | None
) -> Tensor:
    index: list[slice] = [slice(None)] * data.dim()
    flipped = []
    for axis, along in slices(starts, ends, axes, steps):
        index[axis % data.dim()] = along
        if along.step < 0:  # PyTorch has no negative steps: the same elements, read forward and turned around
            taken = range(*along.indices(data.shape[axis]))
            low, high = (taken[-1], taken[0] + 1) if len(taken) else (0, 0)
            index[axis % data.dim()] = slice(low, high, -along.step)
            flipped.append(axis % data.dim())
    found = data[tuple(index)]
    return found.flip(flipped) if flipped else found


def _gather(attributes: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % data.dim()
    size = data.shape[axis]
    flat = torch.where(indices < 0, indices + size, indices).reshape(-1).long()
    taken = data.index_select(axis, flat)
    return taken.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _gather_elements(attributes: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0)
    return torch.gather(data, axis, torch.where(indices < 0, indices + data.shape[axis], indices).long())


def _split(attributes: Attributes, data: Tensor, sizes: Sizes | None = None) -> tuple[Tensor, ...]:
    axis = attributes.get("axis", 0)
    return torch.split(data, split_sizes(attributes, data.shape[axis], sizes), dim=axis)


def _squeeze(attributes: Attributes, data: Tensor, axes: Sizes | None = None) -> Tensor:
    if axes is None:
        return data.squeeze()
    wanted = {axis % data.dim() for axis in ints(axes)}
    return data.reshape([size for axis, size in enumerate(data.shape) if axis not in wanted])


def _unsqueeze(attributes: Attributes, data: Tensor, axes: Sizes) -> Tensor:
    wanted = ints(axes)
    rank = data.dim() + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        data = data.unsqueeze(axis)
    return data


def _reduce(operation: Callable[..., Tensor]) -> Operator:
    def run(attributes: Attributes, data: Tensor, axes: Sizes | None = None) -> Tensor:
        wanted = reduced_axes(attributes, data.dim(), axes)
        return operation(data, dim=wanted, keepdim=bool(attributes.get("keepdims", 1))) if wanted else data

    return run


def _product(data: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % data.dim() for axis in dim), reverse=True):  # PyTorch takes one axis at a time
        data = data.prod(axis, keepdim)
    return data


def _length(data: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    # Not the root of a sum, whose gradient at zero is infinite: an empty list is such a vector.
    found: Tensor = torch.linalg.vector_norm(data, 2, dim, keepdim)
    return found


def _expand(attributes: Attributes, data: Tensor, shape: Sizes) -> Tensor:
    wanted = torch.broadcast_shapes(data.shape, tuple(ints(shape)))
    return data.expand(wanted)


def _clip(attributes: Attributes, data: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return data if low is None and high is None else torch.clamp(data, low, high)


def _batch_normalization(
    attributes: Attributes, data: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return functional.batch_norm(data, mean, variance, scale, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def _layer_normalization(attributes: Attributes, data: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attributes.get("axis", -1) % data.dim()
    return functional.layer_norm(data, data.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


def _conv(attributes: Attributes, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    spatial = weight.dim() - 2
    pads = attributes.get("pads", [0] * (2 * spatial))
    if any(pads):
        both = [pads[side * spatial + axis] for axis in reversed(range(spatial)) for side in (0, 1)]
        data = functional.pad(data, both)
    run: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[spatial - 1]
    stride, dilation = attributes.get("strides", [1] * spatial), attributes.get("dilations", [1] * spatial)
    found: Tensor = run(data, weight, bias, stride, 0, dilation, attributes.get("group", 1))
    return found


def _selu(attributes: Attributes, data: Tensor) -> Tensor:
    alpha, gamma = attributes.get("alpha", 1.6732632), attributes.get("gamma", 1.0507010)
    found: Tensor = gamma * torch.where(data > 0, data, alpha * torch.expm1(data.clamp(max=0)))
    return found


def _prelu(attributes: Attributes, data: Tensor, slope: Tensor) -> Tensor:
    return torch.where(data >= 0, data, data * slope)


def _pad(
    attributes: Attributes, data: Tensor, pads: Sizes, value: Sizes | None = None, axes: Sizes | None = None
) -> Tensor:
    along = [axis % data.dim() for axis in ints(axes)] if axes is not None else list(range(data.dim()))
    amounts = ints(pads)
    both = [0] * (2 * data.dim())
    for position, axis in enumerate(along):
        last_first = 2 * (data.dim() - 1 - axis)
        both[last_first], both[last_first + 1] = amounts[position], amounts[len(along) + position]
    return functional.pad(data, both, value=0.0 if value is None else float(value))


def _top_k(attributes: Attributes, data: Tensor, count: Sizes) -> tuple[Tensor, Tensor]:
    found = torch.topk(data, ints(count)[0], attributes.get("axis", -1), bool(attributes.get("largest", 1)))
    return found.values, found.indices


def _pow(attributes: Attributes, base: Tensor, exponent: Sizes) -> Tensor:
    # A power of two by multiplication: its gradient at zero is finite, and it is what the engines compute.
    if isinstance(exponent, np.ndarray):
        power = exponent.item() if exponent.size == 1 else torch.from_numpy(exponent)
    else:
        power = float(exponent) if exponent.numel() == 1 and float(exponent) == 2.0 else exponent
    found: Tensor = base * base if isinstance(power, float) and power == 2.0 else base**power
    return found.expand(torch.broadcast_shapes(base.shape, tuple(exponent.shape)))


def _divide(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _constant_of_shape(attributes: Attributes, shape: Sizes) -> Tensor:
    value = attributes.get("value")
    filled = torch.zeros(1) if value is None else torch.from_numpy(value.copy()).reshape(-1)
    sizes = ints(shape)
    return filled.expand(sizes) if sizes else filled.reshape(())


OPERATORS: Mapping[str, Operator] = {
    "Abs": unary(torch.abs),
    "Add": binary(torch.add),
    "And": binary(torch.logical_and),
    "BatchNormalization": _batch_normalization,
    "Cast": lambda attributes, data: data.to(DTYPES[attributes["to"]]),
    "CastLike": lambda attributes, data, like: data.to(like.dtype),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Einsum": lambda attributes, *parts: torch.einsum(attributes["equation"], *parts),
    "Elu": lambda attributes, data: functional.elu(data, attributes.get("alpha", 1.0)),
    "Equal": binary(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Expand": _expand,
    "Flatten": lambda attributes, data: data.reshape(
        int(torch.tensor(data.shape[: attributes.get("axis", 1)]).prod()), -1
    ),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gelu": lambda attributes, data: functional.gelu(data, approximate=attributes.get("approximate", "none")),
    "Gemm": _gemm,
    "Greater": binary(torch.gt),
    "GreaterOrEqual": binary(torch.ge),
    "HardSigmoid": lambda attributes, data: torch.clamp(
        attributes.get("alpha", 0.2) * data + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "Identity": unary(lambda data: data),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda attributes, data: functional.leaky_relu(data, attributes.get("alpha", 0.01)),
    "Less": binary(torch.lt),
    "LessOrEqual": binary(torch.le),
    "Log": unary(torch.log),
    "LogSoftmax": lambda attributes, data: torch.log_softmax(data, attributes.get("axis", -1)),
    "MatMul": binary(torch.matmul),
    "Max": fold(torch.maximum),
    "Min": fold(torch.minimum),
    "Mul": binary(torch.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "Or": binary(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pow,
    "Reciprocal": unary(torch.reciprocal),
    "ReduceL2": _reduce(_length),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda data, dim, keepdim: data.square().sum(dim, keepdim)),
    "Relu": unary(torch.relu),
    "Reshape": _reshape,
    "Selu": _selu,
    "Shape": lambda attributes, data: torch.tensor(data.shape[attributes.get("start", 0) : attributes.get("end")]),
    "Sigmoid": unary(torch.sigmoid),
    "Slice": lambda attributes, data, starts, ends, axes=None, steps=None: _slice(
        attributes, data, starts, ends, axes, steps
    ),
    "Softmax": lambda attributes, data: torch.softmax(data, attributes.get("axis", -1)),
    "Softplus": unary(functional.softplus),
    "Split": _split,
    "Sqrt": unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": binary(torch.sub),
    "Sum": fold(torch.add),
    "Tanh": unary(torch.tanh),
    "Tile": lambda attributes, data, repeats: data.repeat(ints(repeats)),
    "TopK": _top_k,
    "Transpose": lambda attributes, data: data.permute(attributes.get("perm") or tuple(reversed(range(data.dim())))),
    "Unsqueeze": _unsqueeze,
    "Where": lambda attributes, chosen, a, b: torch.where(chosen, a, b),
}

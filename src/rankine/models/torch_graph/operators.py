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

__all__ = ["OPERATORS", "SIZES", "Operator"]

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
Sizes = Tensor | np.ndarray

_DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


def _ints(values: Sizes) -> list[int]:
    return [int(value) for value in values.reshape(-1).tolist()]


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.t() if attributes.get("transA") else a
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if c is not None and c.dim() == 1 and attributes.get("transB") and alpha == beta == 1.0:
        return functional.linear(a, b, c)
    product: Tensor = alpha * (a @ (b.t() if attributes.get("transB") else b))
    return product if c is None else product + beta * c


def _reshape(attributes: Attributes, data: Tensor, shape: Sizes) -> Tensor:
    wanted = _ints(shape)
    if not attributes.get("allowzero"):
        wanted = [data.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return data.reshape(wanted)


def _slice(
    attributes: Attributes, data: Tensor, starts: Sizes, ends: Sizes, axes: Sizes | None, steps: Sizes | None
) -> Tensor:
    begin, stop = _ints(starts), _ints(ends)
    along = _ints(axes) if axes is not None else list(range(len(begin)))
    stride = _ints(steps) if steps is not None else [1] * len(begin)
    index: list[slice] = [slice(None)] * data.dim()
    flipped = []
    for axis, first, last, by in zip(along, begin, stop, stride, strict=True):
        axis %= data.dim()
        if by < 0:  # PyTorch has no negative steps: the same elements, read forward and turned around
            taken = range(*slice(first, last, by).indices(data.shape[axis]))
            low, high = (taken[-1], taken[0] + 1) if len(taken) else (0, 0)
            index[axis] = slice(low, high, -by)
            flipped.append(axis)
        else:
            index[axis] = slice(first, last, by)
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
    if sizes is not None:
        return torch.split(data, _ints(sizes), dim=axis)
    total, parts = data.shape[axis], attributes["num_outputs"]
    each = -(-total // parts)  # where they are not equal, the last one is smaller
    return torch.split(data, [max(0, min(each, total - each * part)) for part in range(parts)], dim=axis)


def _squeeze(attributes: Attributes, data: Tensor, axes: Sizes | None = None) -> Tensor:
    if axes is None:
        return data.squeeze()
    wanted = {axis % data.dim() for axis in _ints(axes)}
    return data.reshape([size for axis, size in enumerate(data.shape) if axis not in wanted])


def _unsqueeze(attributes: Attributes, data: Tensor, axes: Sizes) -> Tensor:
    wanted = _ints(axes)
    rank = data.dim() + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        data = data.unsqueeze(axis)
    return data


def _reduce(operation: Callable[..., Tensor]) -> Operator:
    def run(attributes: Attributes, data: Tensor, axes: Sizes | None = None) -> Tensor:
        wanted = (_ints(axes) if axes is not None else []) or list(attributes.get("axes", ()))
        if not wanted:
            if attributes.get("noop_with_empty_axes"):
                return data
            wanted = list(range(data.dim()))
        return operation(data, dim=tuple(wanted), keepdim=bool(attributes.get("keepdims", 1)))

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
    wanted = torch.broadcast_shapes(data.shape, tuple(_ints(shape)))
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
    along = [axis % data.dim() for axis in _ints(axes)] if axes is not None else list(range(data.dim()))
    amounts = _ints(pads)
    both = [0] * (2 * data.dim())
    for position, axis in enumerate(along):
        last_first = 2 * (data.dim() - 1 - axis)
        both[last_first], both[last_first + 1] = amounts[position], amounts[len(along) + position]
    return functional.pad(data, both, value=0.0 if value is None else float(value))


def _top_k(attributes: Attributes, data: Tensor, count: Sizes) -> tuple[Tensor, Tensor]:
    found = torch.topk(data, _ints(count)[0], attributes.get("axis", -1), bool(attributes.get("largest", 1)))
    return found.values, found.indices


def _pow(attributes: Attributes, base: Tensor, exponent: Sizes) -> Tensor:
    # A power of two by multiplication: its gradient at zero is finite, and it is what the engines compute.
    if isinstance(exponent, np.ndarray):
        power = exponent.item() if exponent.size == 1 else torch.from_numpy(exponent)
    else:
        power = float(exponent) if exponent.numel() == 1 and float(exponent) == 2.0 else exponent
    found: Tensor = base * base if isinstance(power, float) and power == 2.0 else base**power
    return found


def _fold(operation: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def run(attributes: Attributes, *parts: Tensor) -> Tensor:
        found = parts[0]
        for part in parts[1:]:
            found = operation(found, part)
        return found

    return run


def _divide(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _unary(operation: Callable[[Tensor], Tensor]) -> Operator:
    return lambda attributes, data: operation(data)


def _binary(operation: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda attributes, a, b: operation(a, b)


def _constant_of_shape(attributes: Attributes, shape: Sizes) -> Tensor:
    value = attributes.get("value")
    filled = torch.zeros(1) if value is None else torch.from_numpy(value.copy()).reshape(-1)
    sizes = _ints(shape)
    return filled.expand(sizes) if sizes else filled.reshape(())


_REDUCTIONS = ("L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
SIZES: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Pow": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    **{f"Reduce{name}": (1,) for name in _REDUCTIONS},
}
"""Inputs, by position, whose values decide on shapes or on what is called."""

OPERATORS: Mapping[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "BatchNormalization": _batch_normalization,
    "Cast": lambda attributes, data: data.to(_DTYPES[attributes["to"]]),
    "CastLike": lambda attributes, data, like: data.to(like.dtype),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, dim=attributes["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Einsum": lambda attributes, *parts: torch.einsum(attributes["equation"], *parts),
    "Elu": lambda attributes, data: functional.elu(data, attributes.get("alpha", 1.0)),
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": lambda attributes, data: data.reshape(
        int(torch.tensor(data.shape[: attributes.get("axis", 1)]).prod()), -1
    ),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gelu": lambda attributes, data: functional.gelu(data, approximate=attributes.get("approximate", "none")),
    "Gemm": _gemm,
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "HardSigmoid": lambda attributes, data: torch.clamp(
        attributes.get("alpha", 0.2) * data + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "Identity": _unary(lambda data: data),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda attributes, data: functional.leaky_relu(data, attributes.get("alpha", 0.01)),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "LogSoftmax": lambda attributes, data: torch.log_softmax(data, attributes.get("axis", -1)),
    "MatMul": _binary(torch.matmul),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _pow,
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceL2": _reduce(_length),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda data, dim, keepdim: data.square().sum(dim, keepdim)),
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Selu": _selu,
    "Shape": lambda attributes, data: torch.tensor(data.shape[attributes.get("start", 0) : attributes.get("end")]),
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": lambda attributes, data, starts, ends, axes=None, steps=None: _slice(
        attributes, data, starts, ends, axes, steps
    ),
    "Softmax": lambda attributes, data: torch.softmax(data, attributes.get("axis", -1)),
    "Softplus": _unary(functional.softplus),
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Sum": _fold(torch.add),
    "Tanh": _unary(torch.tanh),
    "Tile": lambda attributes, data, repeats: data.repeat(_ints(repeats)),
    "TopK": _top_k,
    "Transpose": lambda attributes, data: data.permute(attributes.get("perm") or tuple(reversed(range(data.dim())))),
    "Unsqueeze": _unsqueeze,
    "Where": lambda attributes, chosen, a, b: torch.where(chosen, a, b),
}

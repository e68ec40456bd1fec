"""Matrix products: with constants they are linear layers, of two values batched products."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.compilation.fused.operators.call import Call
from rankine.compilation.fused.program import Binary
from rankine.compilation.fused.values import RoundedWeight, Unsupported, Value
from rankine.compilation.fused.views import View, constant_view

__all__ = ["lowerings"]


def _gemm(call: Call) -> list[Value]:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if call.attribute("transA", 0):
        raise Unsupported("its first input is transposed")
    turned = bool(call.attribute("transB", 0))
    if 1 in call.constants:
        weight = _matrix(call, 1, turned=turned)
        product = call.build.linear(call.value(), weight * np.float32(alpha), _rounded(call, 1, alpha, turned=turned))
    else:
        right = call.view(1).permuted((1, 0)) if turned else call.view(1)
        product = _batched(call, call.view(), right, call.dims[0])
        product = call.build.binary(Binary.MUL, product, _number(alpha)) if alpha != 1 else product
    if not call.has(2) or beta == 0:
        return [Value(product)]
    if 2 in call.constants:
        summand = constant_view(np.asarray(call.constants[2], np.float32) * np.float32(beta))
    else:
        summand = call.view(2)
        summand = call.build.binary(Binary.MUL, summand, _number(beta)) if beta != 1 else summand
    return [Value(call.build.binary(Binary.ADD, product, summand))]


def _matmul(call: Call) -> list[Value]:
    if 1 in call.constants and math.prod(call.constants[1].shape[:-2]) == 1:
        product = call.build.linear(call.value(), _matrix(call, 1), _rounded(call, 1))
        return [Value(call.build.shaped(product, call.dims[0]))]
    left, right = call.view(0), call.view(1)
    if len(right.dims) == 1:
        right = call.build.shaped(right, (right.dims[0], 1))
    return [Value(_batched(call, left, right, call.dims[0]))]


def _matrix(call: Call, position: int, *, turned: bool = False) -> np.ndarray:
    """A constant as ``(K, N)``."""
    weight = call.constants[position]
    if weight.dtype != np.float32:
        raise Unsupported(f"its weights are {weight.dtype}")
    weight = weight.reshape(-1, 1) if weight.ndim < 2 else weight.reshape(weight.shape[-2:])
    return weight.T if turned else weight


def _rounded(call: Call, position: int, alpha: float = 1.0, *, turned: bool = False) -> RoundedWeight | None:
    """The codes ``(K, N)`` of a constant and their scales ``(N,)``; None where scales differ along K."""
    weight = call.value(position).weight if position in call.values else None
    if weight is None or weight.codes.ndim < 2:
        return None
    codes = weight.codes.reshape(weight.codes.shape[-2:])
    scales = np.broadcast_to(weight.scales, weight.codes.shape).reshape(codes.shape)
    codes, scales = (codes.T, scales.T) if turned else (codes, scales)
    if (scales != scales[:1]).any():
        return None
    return RoundedWeight(codes, scales[0] * np.float32(alpha))


def _batched(call: Call, left: View, right: View, dims: Sequence[int]) -> View:
    """``(..., M, K)`` times ``(..., K, N)``, the axes before them broadcast."""
    before = np.broadcast_shapes(left.dims[:-2], right.dims[:-2])
    batch = math.prod(before)
    reads = []
    for view in (left, right):
        spread = view.expanded((*before, *view.dims[-2:]))
        reads.append(call.build.shaped(spread, (batch, *view.dims[-2:])))
    return call.build.shaped(call.build.matmul(*reads), dims)


def _einsum(call: Call) -> list[Value]:
    """Of two operands: letters of both that stay are the batch, letters of both that go are summed."""
    given, _, result = str(call.attribute("equation")).replace(" ", "").partition("->")
    names = given.split(",")
    if len(names) != 2 or any(len(set(letters)) < len(letters) for letters in (*names, result)):
        raise Unsupported(f"its equation '{given}->{result}' is no product of two")
    left, right = names
    summed = [letter for letter in left if letter in right and letter not in result]
    batch = [letter for letter in left if letter in right and letter in result]
    own = [[letter for letter in letters if letter not in batch + summed] for letters in names]
    if set(result) != {*batch, *own[0], *own[1]}:
        raise Unsupported(f"its equation '{given}->{result}' sums over one operand alone")
    sizes = dict(zip(left + right, call.view(0).dims + call.view(1).dims, strict=True))
    if 1 in call.constants and not batch:
        found = _with_weight(call, left, right, summed, own)
    else:
        found = _of_values(call, names, (batch, *own, summed), sizes)
    letters = [*batch, *own[0], *own[1]]
    apart = call.build.shaped(found, [sizes[letter] for letter in letters])
    return [Value(apart.permuted([letters.index(letter) for letter in result]))]


def _with_weight(call: Call, left: str, right: str, summed: list[str], own: list[list[str]]) -> View:
    order = [right.index(letter) for letter in (*summed, *own[1])]
    constant = np.asarray(call.constants[1], np.float32).transpose(order)
    inner = math.prod(constant.shape[: len(summed)])
    source = call.view(0).permuted([left.index(letter) for letter in (*own[0], *summed)])
    source = call.build.shaped(source, (math.prod(source.dims) // inner, inner))
    return call.build.linear(Value(source), constant.reshape(inner, -1), None)


def _of_values(call: Call, names: list[str], parts: tuple[list[str], ...], sizes: Mapping[str, int]) -> View:
    batch, first, second, summed = parts
    views = []
    for position, order in ((0, (batch, first, summed)), (1, (batch, summed, second))):
        letters = [letter for part in order for letter in part]
        view = call.view(position).permuted([names[position].index(letter) for letter in letters])
        views.append(call.build.shaped(view, [math.prod(sizes[letter] for letter in part) for part in order]))
    return call.build.matmul(*views)


def _number(number: float) -> View:
    return constant_view(np.full((), number, np.float32))


lowerings: Mapping[str, Callable[[Call], list[Value]]] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}

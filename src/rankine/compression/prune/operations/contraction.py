"""Sums of products: linear layers, attention, dot interactions, convolutions over one place."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.compression.prune.labels import Ids, Labels
from rankine.compression.prune.operation import Operation
from rankine.compression.prune.plan import projections
from rankine.models.rewrite.graph import attribute

if TYPE_CHECKING:
    from rankine.compression.prune.plan import Plan
    from rankine.compression.prune.trace import Trace

__all__ = ["Contraction", "contraction"]


@dataclass(frozen=True, slots=True)
class Equation:
    """As in ``einsum``: a letter for each axis of each operand and of the result; a letter that the result lacks is
    summed over."""

    operands: tuple[str, ...]
    result: str


def contraction(trace: Trace, node: onnx.NodeProto, data: tuple[str, ...]) -> Operation | None:
    """The operation of a node that is a sum of products; None where it is none of a known form."""
    shapes = [trace.shape(name) for name in node.input if name]
    makers = {"Conv": _of_conv, "Einsum": _of_einsum, "Gemm": _of_gemm, "MatMul": _of_matmul}
    if node.op_type not in makers:
        return None
    equation = makers[node.op_type](node, shapes)
    if equation is None or any(
        name and name not in trace.graph.constants for name in node.input[len(equation.operands) :]
    ):
        return None
    return Contraction(trace, node, data, equation)


class Contraction(Operation):
    """A sum of products of values and weights.

    Each place of an axis that only a weight has is a neuron: it can be taken out by itself.

    Attributes:
        equation: of its operands; a bias comes after them.
        neurons: the letter of the neurons; empty where there are none.
        extents: of every letter.
    """

    def __init__(self, trace: Trace, node: onnx.NodeProto, data: tuple[str, ...], equation: Equation) -> None:
        super().__init__(node, data)
        self.equation = equation
        self.operands = list(zip(equation.operands, node.input, strict=False))
        self.extents: dict[str, int] = {}
        for letters, name in self.operands:
            self.extents |= dict(zip(letters, trace.shape(name), strict=True))
        values = "".join(letters for letters, name in self.operands if name in data)
        own = [letter for letter in equation.result if letter not in values and self.extents[letter] > 1]
        self.neurons = own[0] if len(own) == 1 else ""

    def label(self, trace: Trace) -> None:
        labels, result = trace.labels, self.equation.result
        values = [(letters, labels.normal(trace.ids[name])) for letters, name in self.operands if name in trace.ids]
        space = "".join(dict.fromkeys("".join(letters for letters, _ in values)))
        ids = np.zeros([self.extents[letter] for letter in space], np.int64)
        for letters, own in values:
            ids = labels.either(ids, _spread(own, letters, space))
        summed = [axis for axis, letter in enumerate(space) if letter not in result]
        kept = "".join(letter for letter in space if letter in result)
        ids = _spread(labels.all_along(ids, summed) if summed else ids, kept, result)
        ids = np.broadcast_to(ids, trace.shape(self.output))
        if self.neurons:
            ids = labels.either(
                ids, _spread(labels.neurons(self.output, self.extents[self.neurons]), self.neurons, result)
            )
        trace.put(self.output, ids)

    def own(self, labels: Labels) -> Ids | None:
        return labels.neurons(self.output, self.extents[self.neurons]) if self.neurons else None

    def need(self, plan: Plan) -> None:
        needed = plan.needed(self.output)
        for position, (letters, name) in enumerate(self.operands):
            if name not in plan.trace.ids:
                continue
            others = [
                (own, ~plan.gone(other))
                for at, (own, other) in enumerate(self.operands)
                if at != position and other in plan.trace.ids
            ]
            plan.need(name, _any_product([(self.equation.result, needed), *others], letters, self.extents))

    def axes(self, trace: Trace) -> dict[str, Ids]:
        """For every letter the sets by which its places vanish."""
        found: dict[str, Ids] = {letter: np.zeros(size, np.int64) for letter, size in self.extents.items()}
        values = [(letters, name) for letters, name in self.operands if name in trace.ids]
        for letters, name in values:
            for letter, own in zip(letters, trace.axes(name), strict=True):
                found[letter] = trace.labels.either(found[letter], own)
        if self.neurons:
            found[self.neurons] = trace.axes(self.output)[self.equation.result.index(self.neurons)]
        return found

    def shrink(self, plan: Plan) -> None:
        left = dict(zip(self.equation.result, projections(plan.needed(self.output)), strict=True))
        left |= {letter: np.ones(size, bool) for letter, size in self.extents.items() if letter not in left}
        for letter in dict.fromkeys("".join(self.equation.operands)):
            masks = [
                plan.kept[name][letters.index(letter)]
                for letters, name in self.operands
                if letter in letters and name in plan.kept
            ]
            if masks:
                left[letter] = np.logical_and.reduce(masks)
        inputs = [plan.take(name, [left[letter] for letter in letters]) for letters, name in self.operands]
        kept = [left[letter] for letter in self.equation.result]
        inputs += [
            plan.cut(bias, self._bias_axes(plan.trace.shape(bias), kept)) if bias else ""
            for bias in self.node.input[len(self.operands) :]
        ]
        plan.emit(self.node, inputs)
        plan.put(self.output, kept)

    def _bias_axes(self, shape: tuple[int, ...], kept: list[np.ndarray]) -> list[np.ndarray]:
        matching = kept[1:2] if self.node.op_type == "Conv" else kept[len(kept) - len(shape) :]
        return [np.ones(1, bool) if size == 1 else mask for size, mask in zip(shape, matching, strict=True)]


def _spread(values: np.ndarray, letters: str, space: str) -> np.ndarray:
    """An array with axes ``letters`` as one with axes ``space``, of extent 1 where it has none."""
    order = [letters.index(letter) for letter in space if letter in letters]
    shape = iter([values.shape[axis] for axis in order])
    spread: np.ndarray = values.transpose(order).reshape([next(shape) if letter in letters else 1 for letter in space])
    return spread


def _any_product(factors: list[tuple[str, np.ndarray]], wanted: str, extents: dict[str, int]) -> np.ndarray:
    """For each place of ``wanted`` whether any product of the factors is true there."""
    terms = []
    for letters, values in factors:  # a letter that nothing else has is settled first: it may be long
        elsewhere = wanted + "".join(other for other, part in factors if part is not values)
        alone = tuple(axis for axis, letter in enumerate(letters) if letter not in elsewhere)
        terms.append(("".join(letter for letter in letters if letter in elsewhere), np.asarray(values.any(axis=alone))))
    space = "".join(dict.fromkeys(wanted + "".join(letters for letters, _ in terms)))
    found = np.ones([extents[letter] for letter in wanted] + [1] * (len(space) - len(wanted)), bool)
    for letters, values in terms:
        found = found & _spread(values, letters, space)
    return np.asarray(found.any(axis=tuple(range(len(wanted), len(space)))))


def _of_gemm(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> Equation:
    left = "ka" if attribute(node, "transA", 0) else "ak"
    right = "bk" if attribute(node, "transB", 0) else "kb"
    return Equation((left, right), "ab")


def _of_matmul(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> Equation | None:
    if min(len(shape) for shape in shapes) < 2:
        return None
    rank = max(len(shape) for shape in shapes)
    fresh = iter(ascii_letters)
    row, inner, column = (next(fresh) for _ in range(3))
    batch = [next(fresh) for _ in range(rank - 2)]
    operands = []
    for shape, ends in zip(shapes, (row + inner, inner + column), strict=True):
        lead = ""
        for axis, size in enumerate(shape[:-2]):
            letter = batch[rank - len(shape) + axis]
            widest = max(other[axis - len(shape)] if len(other) >= len(shape) - axis else 1 for other in shapes)
            lead += letter if size == widest else next(fresh)  # one that is repeated has a letter of its own
        operands.append(lead + ends)
    return Equation(tuple(operands), "".join(batch) + row + column)


def _of_einsum(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> Equation | None:
    equation = str(attribute(node, "equation")).replace(" ", "")
    operands, arrow, result = equation.partition("->")
    if not arrow or "." in equation or any(len(set(part)) != len(part) for part in (*operands.split(","), result)):
        return None
    return Equation(tuple(operands.split(",")), result)


def _of_conv(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> Equation | None:
    """A convolution that looks at one place only is a linear layer on the channels of every place."""
    spatial = len(shapes[0]) - 2
    plain = (
        set(shapes[1][2:]) == {1}
        and attribute(node, "group", 1) == 1
        and not any(attribute(node, "pads", [0]))
        and set(attribute(node, "strides", [1])) == {1}
        and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
    places, kernel = ascii_letters[3 : 3 + spatial], ascii_letters[3 + spatial : 3 + 2 * spatial]
    return Equation(("ab" + places, "cb" + kernel), "ac" + places) if plain else None

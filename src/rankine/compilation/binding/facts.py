"""What is proved of a value: when it is known, and where its rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from rankine.compilation.binding.dims import Dim, Rows, Shape, Unprovable, row_axis
from rankine.compilation.binding.lattice import Binding
from rankine.models.rewrite.graph import attribute

__all__ = ["Fact", "Out", "Reading", "fact_of_constant", "fact_of_input"]

_LARGEST_CONTENT = 64


@dataclass(frozen=True)
class Fact:
    """Of one value.

    Attributes:
        binding: when it is known.
        shape: with the axis of the rows in it: row ``r`` of the value depends on row ``r`` of the graph's inputs only.
            None where that is not proved; then the value is kept whole, at ``candidate``.
        dtype: of its elements.
        content: of a value of integers that shapes are computed with, what it holds.
    """

    binding: Binding
    shape: Shape | None
    dtype: Any = np.float32
    content: tuple[Dim, ...] | None = None

    @property
    def crosses(self) -> bool:
        """Whether one row of it after the other can be stored and gathered."""
        if self.shape is None or self.dtype != np.float32 or not self.shape:
            return False
        return self.shape[0] == Rows(1) and row_axis(self.shape) == 0


@dataclass(frozen=True)
class Out:
    """What a rule says of one output of a node; None for a dtype means that of the first input."""

    shape: Shape
    dtype: Any = None
    content: tuple[Dim, ...] | None = None


@dataclass(frozen=True)
class Reading:
    """A node as rules read it.

    Attributes:
        facts: of the node's inputs, in their order; None for those left out.
        constants: values of the inputs that are constants, by position.
    """

    node: onnx.NodeProto
    facts: tuple[Fact | None, ...]
    constants: Mapping[int, np.ndarray]

    def shape(self, position: int = 0) -> Shape:
        """Of an input.

        Raises:
            Unprovable: nothing is proved of it, or it is left out.
        """
        fact = self.facts[position] if position < len(self.facts) else None
        if fact is None or fact.shape is None:
            raise Unprovable("an input of it is kept whole")
        return fact.shape

    def shapes(self) -> list[Shape]:
        """Of all inputs that are there."""
        return [self.shape(position) for position, fact in enumerate(self.facts) if fact is not None]

    def constant(self, position: int) -> np.ndarray | None:
        """The value of an input; None where it is left out.

        Raises:
            Unprovable: it is computed.
        """
        if position >= len(self.facts) or self.facts[position] is None:
            return None
        if position not in self.constants:
            raise Unprovable(f"its input {position} is computed from the rows")
        return self.constants[position]

    def content(self, position: int) -> tuple[Dim, ...]:
        """The sizes that an input holds.

        Raises:
            Unprovable: they are not known.
        """
        fact = self.facts[position]
        if fact is None or fact.content is None:
            raise Unprovable("the sizes that it reads are not known before it runs")
        return fact.content

    def axes(self, position: int, name: str) -> tuple[int, ...] | None:
        """Axes from an input (newer opsets) or an attribute, counted from the front of input 0; None if left out."""
        given = self.constant(position)
        found = attribute(self.node, name) if given is None else given.reshape(-1).tolist()
        if found is None:
            return None
        rank = len(self.shape())
        return tuple(sorted(int(axis) % rank for axis in found))

    def attribute(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)


def fact_of_constant(values: np.ndarray) -> Fact:
    """Of an array; small arrays of integers may be sizes."""
    sizes = values.dtype.kind == "i" and values.ndim < 2 and values.size <= _LARGEST_CONTENT
    content = tuple(int(value) for value in values.reshape(-1)) if sizes else None
    return Fact(Binding.CONSTANT, values.shape, values.dtype, content)


def fact_of_input(value: onnx.ValueInfoProto, binding: Binding) -> Fact:
    """Of an input of the graph, ``(rows, ...)``; nothing is proved of one without dynamic rows."""
    tensor = value.type.tensor_type
    first, *others = tensor.shape.dim or [None]
    if first is None or first.dim_value or not all(dim.dim_value for dim in others):
        return Fact(Binding.CANDIDATE, None)
    shape: Shape = (Rows(), *(dim.dim_value for dim in others if dim is not None))
    return Fact(binding, shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type))

"""A node as the lowering of its operator reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from rankine.compilation.fused.builder import Builder
from rankine.compilation.fused.values import Unsupported, Value
from rankine.compilation.fused.views import View
from rankine.models.rewrite.graph import attribute

__all__ = ["Call", "normalized_axis"]


@dataclass(frozen=True)
class Call:
    """One node.

    Attributes:
        values: of its inputs, by position; those left out, and those that are no numbers, are missing.
        constants: of its inputs, by position, those that are constants.
        dims: of its outputs within a row.
        dtypes: of its outputs; ``given`` those of its inputs, by position.
    """

    node: onnx.NodeProto
    build: Builder
    values: Mapping[int, Value]
    constants: Mapping[int, np.ndarray]
    dims: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    given: Mapping[int, Any]

    def has(self, position: int) -> bool:
        return position < len(self.node.input) and bool(self.node.input[position])

    def value(self, position: int = 0) -> Value:
        if position not in self.values:
            raise Unsupported(f"its input '{self.node.input[position]}' is no number of a row")
        return self.values[position]

    def view(self, position: int = 0) -> View:
        """The numbers of an input."""
        return self.build.numbers(self.value(position))

    def views(self) -> list[View]:
        return [self.view(position) for position in range(len(self.node.input)) if self.has(position)]

    def constant(self, position: int) -> np.ndarray | None:
        """An input that has to be a constant; None where it is left out."""
        if not self.has(position):
            return None
        if position not in self.constants:
            raise Unsupported(f"its input '{self.node.input[position]}' is computed, and has to be a constant")
        return self.constants[position]

    def scalar(self, position: int, default: float) -> float:
        """A constant of one element."""
        found = self.constant(position)
        return default if found is None else float(found.reshape(()))

    def attribute(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def axes(self, position: int, rank: int) -> list[int] | None:
        """From an input, or in old opsets an attribute ``axes``; None if left out."""
        given = self.constant(position)
        found = self.attribute("axes") if given is None else given.reshape(-1).tolist()
        return None if found is None else sorted(normalized_axis(axis, rank) for axis in found)


def normalized_axis(axis: int, rank: int) -> int:
    return int(axis) % rank

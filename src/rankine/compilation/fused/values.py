"""What is known of a graph's value while it is lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rankine.compilation.fused.views import View

__all__ = ["Codes", "RoundedWeight", "Unsupported", "Value"]


class Unsupported(Exception):
    """A node that the engine has no operation for; says why."""


@dataclass(frozen=True)
class Codes:
    """Bytes, and the numbers that they stand for: ``(codes - zero) * step``."""

    view: View
    step: float = 1.0
    zero: int = 0


@dataclass(frozen=True, eq=False)
class RoundedWeight:
    """A constant behind a ``DequantizeLinear``: s8 codes, and scales that broadcast with them; zero points are 0."""

    codes: np.ndarray
    scales: np.ndarray


@dataclass(frozen=True)
class Value:
    """A value within a row: its numbers, or the codes that they are made of when somebody reads numbers.

    Attributes:
        view: float32; None as long as there are only codes.
        codes: where the value is rounded.
        weight: where it is a rounded constant.
    """

    view: View | None = None
    codes: Codes | None = None
    weight: RoundedWeight | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        view = self.view if self.codes is None else self.codes.view
        if view is None:
            raise TypeError("a value has numbers or codes")
        return view.dims

    def moved(self, move: Callable[[View], View]) -> Value:
        """Its elements in another order: of the codes where there are any, so that they can be read as codes."""
        if self.codes is not None:
            return Value(codes=replace(self.codes, view=move(self.codes.view)))
        if self.view is None:
            raise TypeError("a value has numbers or codes")
        return Value(move(self.view))

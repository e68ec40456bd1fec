"""Several variants tested on one split: which passes may be believed.

Twenty variants that all lose the margin would on average give one false pass at 5 % each. Two procedures keep the
chance of *any* false pass at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from rankine.config import Frozen
from rankine.errors import UsageError

__all__ = ["Adjusted", "Multiplicity", "Procedure", "fixed_sequence", "holm"]

Procedure = Literal["fixed-sequence", "holm"]


class Multiplicity(Frozen):
    """How one of several variants came through: ``position`` from 1 in ``order``, which was fixed before the test.

    ``p_adjusted`` is the smallest level at which the procedure would let the variant pass.
    """

    procedure: Procedure
    order: tuple[str, ...] = Field(min_length=1)
    position: int = Field(ge=1)
    p_value: float = Field(ge=0, le=1)
    p_adjusted: float = Field(ge=0, le=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)

    @property
    def passed(self) -> bool:
        """Whether the procedure lets the variant pass."""
        return self.p_adjusted <= self.alpha

    @model_validator(mode="after")
    def _adjustment_only_raises(self) -> Self:
        if self.position > len(self.order):
            raise ValueError(f"position {self.position} is beyond the {len(self.order)} variants of the order")
        if self.p_adjusted < self.p_value:
            raise ValueError("an adjusted p-value cannot be below the p-value itself")
        return self


class Adjusted(Frozen):
    """The outcome of a procedure, in the order of the p-values given."""

    p_adjusted: tuple[float, ...]
    passed: tuple[bool, ...]


def fixed_sequence(p_values: Sequence[float], alpha: float = 0.05) -> Adjusted:
    """Test in the order given, each at the full ``alpha``, and stop at the first that fails (Maurer et al. 1995).

    The order has to be fixed without a look at the test rows. The adjusted p-value is the largest so far.

    Raises:
        UsageError: a p-value or ``alpha`` is no probability.
    """
    _check(p_values, alpha)
    adjusted = tuple(max(p_values[: place + 1]) for place in range(len(p_values)))
    return Adjusted(p_adjusted=adjusted, passed=tuple(p <= alpha for p in adjusted))


def holm(p_values: Sequence[float], alpha: float = 0.05) -> Adjusted:
    """Holm's step-down procedure (1979): the smallest p-value against ``alpha / k``, the next ``alpha / (k - 1)``, ...

    Needs no order, and holds however the tests depend on each other.

    Raises:
        UsageError: a p-value or ``alpha`` is no probability.
    """
    _check(p_values, alpha)
    count, reached = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        reached = max(reached, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = reached
    return Adjusted(p_adjusted=tuple(adjusted), passed=tuple(p <= alpha for p in adjusted))


def _check(p_values: Sequence[float], alpha: float) -> None:
    if not 0 < alpha < 1:
        raise UsageError("not a probability", where="alpha", got=alpha, allowed="between 0 and 1")
    for place, p_value in enumerate(p_values):
        if not 0 <= p_value <= 1:
            raise UsageError("not a probability", where=f"p_values[{place}]", got=p_value, allowed="0..1")

"""Several variants tested on one split: which passes may be believed.

Twenty variants that all lose the margin would on average give one false pass at 5 % each. Two procedures keep the
chance of *any* false pass at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from rankine.certification.margins import MetricName
from rankine.certification.metric_tests import Verdict
from rankine.config import Frozen
from rankine.errors import UsageError

__all__ = ["Adjusted", "Multiplicity", "Outcome", "Procedure", "fixed_sequence", "holm"]

Procedure = Literal["fixed-sequence", "holm"]


class Outcome(Frozen):
    """What one of several tests on the same rows found, with the procedure over them.

    ``margin`` is that of AUC. ``metric`` is the one that decides, with ``metric_margin`` of its own: the one with the
    largest p-value, of the ``task`` with the largest; ``ci_low`` is its one-sided 95 % lower bound, ``p_value`` that of
    the whole test. ``verdict`` is over all tasks, after the procedure.
    """

    variant: str
    engine: str
    margin: float = Field(gt=0)
    verdict: Verdict
    p_value: float = Field(ge=0, le=1)
    task: str
    metric: MetricName
    metric_margin: float = Field(gt=0)
    ci_low: float


class Multiplicity(Frozen):
    """How one of several tests came through: ``position`` from 1 in ``order``, which was fixed before the test.

    ``p_adjusted`` is the smallest level at which the procedure would let the variant pass. ``outcomes`` are those of
    all tests that ``order`` names, whichever certificates are kept; empty in certificates of before they were recorded.
    """

    procedure: Procedure
    order: tuple[str, ...] = Field(min_length=1)
    position: int = Field(ge=1)
    p_value: float = Field(ge=0, le=1)
    p_adjusted: float = Field(ge=0, le=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    outcomes: tuple[Outcome, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the procedure lets the variant pass."""
        return self.p_adjusted <= self.alpha

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.position > len(self.order):
            raise ValueError(f"position {self.position} is beyond the {len(self.order)} variants of the order")
        if self.p_adjusted < self.p_value:
            raise ValueError("an adjusted p-value cannot be below the p-value itself")
        if self.outcomes and len(self.outcomes) != len(self.order):
            raise ValueError(f"{len(self.outcomes)} outcomes of {len(self.order)} tests")
        if self.outcomes and self.outcomes[self.position - 1].p_value != self.p_value:
            raise ValueError("the p-value is not that of the outcome at this position")
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

"""Slices: is some part of the rows harmed where the whole is not?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from rankine.config import Frozen
from rankine.metrics import Bools

__all__ = ["Slice", "SliceTest"]

_LEVEL = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some of the rows, by name, e.g. ``genre=Drama``; ``rows`` is a mask of shape ``(rows,)``."""

    name: str
    rows: Bools


class SliceTest(Frozen):
    """The test of one slice *for harm*; the null hypothesis is "the slice loses no more AUC than the margin".

    ``delta`` is the variant's AUC minus the baseline's within the slice. ``p_value`` is one-sided, ``p_adjusted`` after
    Holm's correction over all slices tested; harmed is a slice with ``p_adjusted`` of 0.05 or less. All are None where
    the slice was not tested: ``note`` says why.
    """

    name: str
    rows: int
    positives: int
    negatives: int
    margin: float = Field(gt=0)
    baseline: float | None = None
    variant: float | None = None
    delta: float | None = None
    se: float | None = Field(default=None, ge=0)
    p_value: float | None = Field(default=None, ge=0, le=1)
    p_adjusted: float | None = Field(default=None, ge=0, le=1)
    harmed: bool = False
    note: str = ""

    @property
    def tested(self) -> bool:
        """Whether there were rows enough for a test."""
        return self.p_value is not None

    @model_validator(mode="after")
    def _harm_follows_from_p(self) -> Self:
        if self.harmed != (self.p_adjusted is not None and self.p_adjusted <= _LEVEL):
            raise ValueError(f"slice {self.name}: 'harmed' does not follow from its adjusted p-value")
        return self

"""Slices: is some part of the rows harmed where the whole is not?

The certificate tests the whole *for safety*: without evidence it does not pass. Hundreds of slices cannot all be shown
to be safe, so each is tested *for harm*: without evidence it is let be. The null hypothesis is "the slice loses no more
AUC than the margin", the loss that the operator accepted; were it "loses nothing", every slice of a variant that uses
some of its margin would be called harmed as soon as it is large enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from rankine.certification.judging import PairedRows
from rankine.certification.multiplicity import holm
from rankine.config import Frozen
from rankine.errors import DataError, UsageError
from rankine.metrics import Bools
from rankine.stats import PairedAuc, p_value_below, paired_delong

__all__ = ["MeasuredSlice", "Slice", "SliceTest", "harm_tests", "measure_slices", "slices_of"]

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


@dataclass(frozen=True, slots=True)
class MeasuredSlice:
    """What the rows of one slice say; whether it is harmed depends on the margin. ``found`` is None where there were
    too few rows for a test: ``note`` says so."""

    name: str
    positives: int
    negatives: int
    found: PairedAuc | None
    note: str = ""

    def at(self, margin: float) -> SliceTest:
        """The test at a margin, before the correction for the number of slices."""
        count = self.positives + self.negatives
        test = SliceTest(
            name=self.name,
            rows=count,
            positives=self.positives,
            negatives=self.negatives,
            margin=margin,
            note=self.note,
        )
        found = self.found
        if found is None:
            return test
        # For harm the roles change: small is a difference that a slice at minus the margin would seldom show.
        p_value = p_value_below(-found.delta, found.se, margin, found.freedom)
        figures = {"baseline": found.auc_a, "variant": found.auc_b, "delta": found.delta, "se": found.se}
        return test.model_copy(update=figures | {"p_value": p_value})


def measure_slices(
    rows: PairedRows, slices: Sequence[Slice], *, minimum_rows: int = 50, minimum_clusters: int = 10
) -> tuple[MeasuredSlice, ...]:
    """What the rows of each slice say, in the order given.

    Args:
        minimum_rows: of each class, for a slice to be tested.
        minimum_clusters: in each dimension with more than one, for a slice to be tested. A slice of one value of a
            dimension (one item) has one cluster there: nothing within it speaks of others, so that dimension is left.

    Raises:
        DataError: a mask has another shape.
        UsageError: two slices have one name.
    """
    names = [one.name for one in slices]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError("two slices have one name", where="slices", got=twice)
    return tuple(_measure(rows, one, minimum_rows, minimum_clusters) for one in slices)


def harm_tests(measured: Sequence[MeasuredSlice], margin: float) -> tuple[SliceTest, ...]:
    """Test each slice for harm, Holm-corrected; harmed ones first, then by p-value, then those not tested.

    Args:
        margin: of AUC, the loss that is accepted. Every p-value depends on it, and so does the correction.
    """
    tests = [each.at(margin) for each in measured]
    tested = sorted(((test.p_value, test) for test in tests if test.p_value is not None), key=lambda found: found[0])
    adjusted = holm([p_value for p_value, _ in tested]).p_adjusted
    settled = [
        test.model_copy(update={"p_adjusted": p, "harmed": p <= _LEVEL})
        for (_, test), p in zip(tested, adjusted, strict=True)
    ]
    return (*settled, *(test for test in tests if not test.tested))


def slices_of(
    columns: Mapping[str, ArrayLike],
    *,
    train_counts: Mapping[str, ArrayLike] | None = None,
    largest: int = 3,
    rare_below: int = 10,
) -> list[Slice]:
    """Slices of the ``largest`` values of each column, and of what training saw seldom or never.

    Args:
        columns: values of a field, shape ``(rows,)``, by its name.
        train_counts: how often training saw each row's value of a field, shape ``(rows,)``, by the field's name.
        largest: how many values of a column.
        rare_below: a value seen in training, but fewer times than this, is rare; one never seen is new.

    Slices without rows are left out, and so is a value that all rows have.

    Raises:
        DataError: columns of different lengths.
    """
    counts = {} if train_counts is None else train_counts
    lengths = {name: np.shape(values) for name, values in (*columns.items(), *counts.items())}
    for name, shape in lengths.items():
        if len(shape) != 1 or shape != next(iter(lengths.values())):
            raise DataError("must have one value a row", where=name, got=f"shape {shape}")
    found: list[Slice] = []
    for name, values in columns.items():
        distinct, codes, sizes = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        places = np.argsort(-sizes, kind="stable")[:largest]
        found += [Slice(f"{name}={distinct[place]}", np.asarray(codes == place)) for place in places]
    for name, seen in counts.items():
        times = np.asarray(seen)
        found.append(Slice(f"{name} new", np.asarray(times == 0)))
        found.append(Slice(f"{name} rare (seen 1 to {rare_below - 1} times)", (times > 0) & (times < rare_below)))
    return [one for one in found if one.rows.any() and not one.rows.all()]


def _measure(rows: PairedRows, one: Slice, minimum_rows: int, minimum_clusters: int) -> MeasuredSlice:
    mask = np.asarray(one.rows, dtype=np.bool_)
    if mask.shape != rows.positive.shape:
        allowed = f"({len(rows.positive)},)"
        raise DataError("must be one mask of rows", where=f"slices.{one.name}", got=str(mask.shape), allowed=allowed)
    positive = rows.positive[mask]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    untested = partial(MeasuredSlice, one.name, positives, negatives, None)
    if min(positives, negatives) < minimum_rows:
        return untested(f"not tested: under {minimum_rows} rows of a class")
    within = {name: np.asarray(ids)[mask] for name, ids in rows.clusters.items()}
    counts = {name: len(np.unique(ids)) for name, ids in within.items()}
    few = [f"{count} clusters by {name}" for name, count in counts.items() if 1 < count < minimum_clusters]
    several = [ids for name, ids in within.items() if counts[name] > 1]
    if few or (within and not several):
        return untested(f"not tested: {', '.join(few) or 'one cluster'}")
    found = paired_delong(positive, rows.a[mask], rows.b[mask], several)
    return MeasuredSlice(one.name, positives, negatives, found)

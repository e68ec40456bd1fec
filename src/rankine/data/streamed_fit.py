"""Transforms fitted in one pass over chunks: equal to those of all rows at once, up to the rounding of means."""

from __future__ import annotations

import numpy as np

from rankine.models.columns import Columns, Ragged
from rankine.models.schema import DenseFeature, Feature, Schema, TableFeature
from rankine.models.transforms import Normalization, Transforms, table_of

__all__ = ["StreamedFit", "needs_fit"]


def needs_fit(feature: Feature) -> bool:
    """Whether anything about the feature is learned from rows."""
    if isinstance(feature, DenseFeature):
        return feature.normalization != "none"
    return feature.encoding.type == "vocabulary"


class StreamedFit:
    """Takes raw training columns chunk by chunk; memory grows with the distinct values only, not with the rows."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        dense = [feature for feature in schema.features if isinstance(feature, DenseFeature)]
        neutral = {f.name: Normalization(mean=(0.0,) * f.width, std=(1.0,) * f.width) for f in dense}
        # Encodes numbers as they are normalized but for mean and spread: squashed, and checked to be finite.
        self._squash = Transforms(schema, {}, neutral)
        self._moments = {feature.name: _Moments(feature) for feature in dense if needs_fit(feature)}
        self._neutral = neutral
        self._counts = {
            table_of(f): _Counts(f) for f in schema.features if not isinstance(f, DenseFeature) and needs_fit(f)
        }

    def add(self, features: tuple[Feature, ...], columns: Columns) -> None:
        """Raw columns of some features, which need not be of the same rows as those of other features."""
        for feature in features:
            column = columns[feature.name]
            if isinstance(feature, DenseFeature):
                if feature.name in self._moments:
                    squashed = self._squash.encode((feature,), columns)[feature.name]
                    self._moments[feature.name].add(np.asarray(squashed, np.float64))
            elif needs_fit(feature):
                self._counts[table_of(feature)].add(column.values if isinstance(column, Ragged) else column)

    def transforms(self) -> Transforms:
        """What was learned."""
        vocabularies = {table: counts.vocabulary() for table, counts in self._counts.items()}
        learned = {name: moments.normalization() for name, moments in self._moments.items()}
        return Transforms(self._schema, vocabularies, {**self._neutral, **learned})


class _Moments:
    """Mean and spread of a feature by the pairwise formula of Chan, Golub & LeVeque (1983), in float64."""

    def __init__(self, feature: DenseFeature) -> None:
        self._count = 0
        self._mean, self._squares = np.zeros(feature.width), np.zeros(feature.width)

    def add(self, values: np.ndarray) -> None:
        """Take in ``(n, width)``."""
        if not len(values):
            return
        mean, total = values.mean(axis=0), self._count + len(values)
        apart = mean - self._mean
        self._squares += np.square(values - mean).sum(axis=0) + apart**2 * (self._count * len(values) / total)
        self._mean += apart * (len(values) / total)
        self._count = total

    def normalization(self) -> Normalization:
        std = np.sqrt(self._squares / max(self._count, 1))
        # As where all rows are at hand: a constant column's spread is rounding only.
        varies = std > np.maximum(1e-6 * np.abs(self._mean), float(np.finfo(np.float32).tiny))
        return Normalization(mean=tuple(self._mean.tolist()), std=tuple(np.where(varies, std, 1.0).tolist()))


class _Counts:
    """How often each value was seen; chunks are merged when they hold as many values as are known, so that each value
    is sorted a few times only."""

    def __init__(self, feature: TableFeature) -> None:
        self._least = feature.encoding.min_count if feature.encoding.type == "vocabulary" else 1
        self._values: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        distinct, counts = np.unique(values, return_counts=True)
        self._values.append(distinct)
        self._counts.append(counts)
        if sum(map(len, self._values[1:])) > len(self._values[0]):
            self._merge()

    def vocabulary(self) -> np.ndarray:
        """Values that were seen often enough, sorted."""
        self._merge()
        return self._values[0][self._counts[0] >= self._least]

    def _merge(self) -> None:
        values, index = np.unique(np.concatenate(self._values), return_inverse=True)
        counts = np.bincount(index, weights=np.concatenate(self._counts), minlength=len(values)).astype(np.int64)
        self._values, self._counts = [values], [counts]

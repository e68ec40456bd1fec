"""A data set: (request, item) interactions that refer to their request and item entities by index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rankine.errors import DataError
from rankine.models.columns import Batch, Columns, row_count, take
from rankine.models.schema import Schema, Split
from rankine.models.transforms import Transforms

__all__ = ["Dataset", "Splits", "draw_rows", "split_rows"]


@dataclass(frozen=True)
class Splits:
    """Positions of the training, validation and test rows."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_rows(policy: Split, rows: int, timestamps: np.ndarray | None, groups: np.ndarray | None = None) -> Splits:
    """Training, validation and test rows of a data set of ``rows``; of very few rows, parts can be empty.

    Args:
        timestamps: ``(rows,)``, needed where the policy is not at random.
        groups: ``(rows,)``, needed where the last rows of each are left out.
    """
    if policy.by == "leave_last_out" and timestamps is not None and groups is not None:
        return _leave_last_out(timestamps, groups)
    if policy.by == "time" and timestamps is not None:
        order = np.argsort(timestamps, kind="stable")
    else:
        order = np.random.default_rng(policy.seed).permutation(rows)
    first = round(rows * policy.fractions[0])
    second = first + round(rows * policy.fractions[1])
    return Splits(np.sort(order[:first]), np.sort(order[first:second]), np.sort(order[second:]))


def _leave_last_out(timestamps: np.ndarray, groups: np.ndarray) -> Splits:
    """The last time of each group is the test, the one before validation; groups with fewer than three only train."""
    order = np.lexsort((timestamps, groups))
    group, time = groups[order], timestamps[order]
    starts_group = np.concatenate(([True], group[1:] != group[:-1]))
    starts_time = starts_group | np.concatenate(([True], time[1:] != time[:-1]))
    at = np.cumsum(starts_time)  # number of the (group, time)
    group_of = np.cumsum(starts_group) - 1
    last = at[np.append(np.flatnonzero(starts_group)[1:] - 1, len(at) - 1)][group_of]
    first = at[np.flatnonzero(starts_group)][group_of]
    held_out = last - first >= 2  # rows of a group with three times or more
    test, validation = held_out & (at == last), held_out & (at == last - 1)
    return Splits(*(np.sort(order[part]) for part in (~(test | validation), validation, test)))


def draw_rows(total: int, rows: int | None, seed: int) -> np.ndarray:
    """Positions of ``rows`` of ``total`` rows, chosen at random without replacement, ascending; of all for None."""
    if rows is None or rows >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))


@dataclass(frozen=True)
class Dataset:
    """Raw columns of requests and items, once each, and the interactions between them.

    Attributes:
        name: shown in results, e.g. ``movielens-1m``.
        schema: how the columns are read.
        requests: raw request-side columns, ``(requests, ...)``.
        items: raw static item columns, ``(items, ...)``.
        item_ids: ``(items,)`` external ids, int64 or UTF-8 bytes, unique.
        pairs: raw columns given per row (pair and live features), ``(rows, ...)``.
        request_index, item_index: ``(rows,)`` int32.
        labels: ``(rows, tasks)`` float32, 0 or 1, in the order of the schema's tasks.
        groups: ``(rows,)`` int64, the user of each row (equal numbers: the same user), or None.
        timestamps: ``(rows,)`` or None.
        provenance: where the data came from: source, hash of the content, seeds.
        best_auc: for synthetic data, the AUC of the model that generated the labels.
    """

    name: str
    schema: Schema
    requests: Columns
    items: Columns
    item_ids: np.ndarray
    pairs: Columns
    request_index: np.ndarray
    item_index: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    timestamps: np.ndarray | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    best_auc: float | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)

    def splits(self) -> Splits:
        """Training, validation and test rows as the schema's split policy says; the same for the same seed.

        Raises:
            DataError: a part would be empty, or the split is by time and there are no timestamps.
        """
        policy = self.schema.split
        if policy.by != "random" and self.timestamps is None:
            raise DataError(f"a split by {policy.by} needs timestamps", where=self.name)
        if policy.by == "leave_last_out" and self.groups is None:
            raise DataError("a split by leave_last_out needs groups", where=self.name)
        parts = split_rows(policy, self.rows, self.timestamps, self.groups)
        if not (len(parts.train) and len(parts.validation) and len(parts.test)):
            raise DataError("too few rows to split", where=self.name, got=self.rows)
        return parts

    def subset(self, rows: int | None, seed: int) -> Dataset:
        """At most ``rows`` interactions, chosen as :func:`draw_rows` says; requests and items stay as they are."""
        if rows is None or rows >= self.rows:
            return self
        chosen = draw_rows(self.rows, rows, seed)
        return replace(
            self,
            pairs=take(self.pairs, chosen),
            request_index=self.request_index[chosen],
            item_index=self.item_index[chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            timestamps=None if self.timestamps is None else self.timestamps[chosen],
            provenance={**self.provenance, "subset": f"{rows} of {self.rows} rows, seed {seed}"},
        )

    def fit_transforms(self, rows: np.ndarray) -> Transforms:
        """Vocabularies and normalizations from these (training) rows."""
        columns = {
            **take(self.requests, self.request_index[rows]),
            **take(self.items, self.item_index[rows]),
            **take(self.pairs, rows),
        }
        return Transforms.fit(self.schema, columns)

    def encode(self, transforms: Transforms) -> Batch:
        """All rows as one encoded batch; use :meth:`Batch.select` for parts of it.

        Values that were not seen in training are the out-of-vocabulary row, also where serving refuses them: without
        them there would be no validation and no test.
        """
        schema = transforms.schema
        return Batch(
            transforms.encode(schema.request_features, self.requests, unseen="row"),
            transforms.encode(schema.catalog_features, self.items, unseen="row"),
            transforms.encode(schema.row_features, self.pairs, unseen="row"),
            self.request_index,
            self.item_index,
        )

    def clusters(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What makes rows dependent, for cluster-robust statistics: user and item, where more than one is known."""
        found = {} if self.groups is None else {"user": self.groups[rows]}
        return found if len(self.item_ids) < 2 else {**found, "item": self.item_index[rows].astype(np.int64)}

    def check(self) -> None:
        """Check that columns, indices and labels fit together.

        Raises:
            DataError: names what does not.
        """
        rows = self.rows
        for name, index, entities in (
            # A model may read no request features: then there are no columns to point into.
            ("request_index", self.request_index, row_count(self.requests) if self.requests else np.inf),
            ("item_index", self.item_index, len(self.item_ids)),
        ):
            if len(index) != rows or (rows and (index.min() < 0 or index.max() >= entities)):
                raise DataError("does not fit the rows or points outside", where=f"{self.name}: {name}")
        if self.items and row_count(self.items) != len(self.item_ids):
            raise DataError("items and item ids differ in length", where=self.name)
        if self.labels.shape != (rows, len(self.schema.tasks)):
            got, allowed = f"shape {self.labels.shape}", f"({rows}, {len(self.schema.tasks)}): one column a task"
            raise DataError("labels do not fit the tasks", where=self.name, got=got, allowed=allowed)
        for task, labels in zip(self.schema.tasks, self.labels.T, strict=True):
            if not np.isin(labels, (0.0, 1.0)).all():
                hint = "Set the task's threshold in the schema."
                raise DataError("labels must be 0 or 1", where=f"{self.name}: task '{task.name}'", hint=hint)
        if self.timestamps is not None:
            if len(self.timestamps) != rows:
                raise DataError("timestamps do not fit the rows", where=self.name, got=len(self.timestamps))
            if np.isnan(self.timestamps).any():
                row = int(np.argmax(np.isnan(self.timestamps)))
                raise DataError("is not a time", where=f"{self.name}: timestamps, row {row + 1}", got="NaN")

"""Slices by the values of fields: which fields, which values, and what these are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankine.certification.slices import Slice, slices_of
from rankine.errors import UsageError, did_you_mean
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.schema import CategoricalFeature, MultiHotFeature
from rankine.models.transforms import Transforms, table_of

__all__ = ["field_slices", "training_counts"]

_DEFAULT_FIELDS = 4
_LARGEST = 3


def field_slices(transforms: Transforms, batch: Batch, fields: Sequence[str] = ()) -> list[Slice]:
    """Slices of the largest values of fields; a row of a multi-hot feature is in the slice of each of its values.

    Args:
        fields: names of categorical and multi-hot features; empty: up to four of those categorical ones that have the
            fewest values in these rows, but more than one.

    Raises:
        UsageError: a field is no such feature.
    """
    known = {f.name: f for f in transforms.schema.features if isinstance(f, CategoricalFeature | MultiHotFeature)}
    for name in fields:
        if name not in known:
            hint = did_you_mean(name, known) or "Use --no-slices: the model reads no categorical feature."
            raise UsageError("is no categorical or multi-hot feature", where="slices", got=name, hint=hint)
    chosen = [known[name] for name in dict.fromkeys(fields)]
    plain = [feature for feature in chosen if isinstance(feature, CategoricalFeature)]
    if not chosen:
        plain = [feature for feature in known.values() if isinstance(feature, CategoricalFeature)]
    ids = {feature.name: np.unique(_ids(batch, feature), return_inverse=True) for feature in plain}
    if not chosen:
        ids = _fewest(ids)
    columns = {name: _texts(transforms, known[name], values)[at] for name, (values, at) in ids.items()}
    lists = [feature for feature in chosen if isinstance(feature, MultiHotFeature)]
    return slices_of(columns) + [one for feature in lists for one in _list_slices(transforms, batch, feature)]


def training_counts(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How often the id of each of ``rows`` occurs in ``train``, int64 ``(rows,)``."""
    values, counts = np.unique(train, return_counts=True)
    at = np.minimum(np.searchsorted(values, rows), len(values) - 1)
    return np.where(values[at] == rows, counts[at], 0)


def _fewest(ids: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The fields with the fewest values, at least two, in the order of the schema."""
    varied = {name: len(values) for name, (values, _) in ids.items() if len(values) > 1}
    fewest = sorted(varied, key=lambda name: varied[name])[:_DEFAULT_FIELDS]
    return {name: found for name, found in ids.items() if name in fewest}


def _ids(batch: Batch, feature: CategoricalFeature) -> np.ndarray:
    """The encoded ids of the rows, ``(rows,)``."""
    column, index = _column(batch, feature)
    ids: np.ndarray = np.asarray(column)[index]
    return ids


def _column(batch: Batch, feature: CategoricalFeature | MultiHotFeature) -> tuple[Column, np.ndarray]:
    """An encoded column of requests, items or rows, and the position in it of each row."""
    if feature.per_row:
        return batch.pair[feature.name], np.arange(batch.rows)
    if feature.side == "request":
        return batch.request[feature.name], batch.request_index
    return batch.item[feature.name], batch.item_index


def _list_slices(transforms: Transforms, batch: Batch, feature: MultiHotFeature) -> list[Slice]:
    """One slice for each of the values that most rows have."""
    column, index = _column(batch, feature)
    if not isinstance(column, Ragged):
        raise TypeError(f"the encoded column '{feature.name}' is no list")
    owner = np.repeat(np.arange(len(column)), np.diff(column.offsets))
    rows_of = np.bincount(index, minlength=len(column))
    values, at = np.unique(column.values, return_inverse=True)
    once = np.unique(owner * len(values) + at)  # a value that a list has twice counts once
    owner, at = np.divmod(once, max(len(values), 1))
    counts = np.bincount(at, weights=rows_of[owner], minlength=len(values))
    found = []
    for place in np.argsort(-counts, kind="stable")[:_LARGEST]:
        has = np.zeros(len(column), bool)
        has[owner[at == place]] = True
        [name] = _texts(transforms, feature, values[place : place + 1])
        found.append(Slice(f"{feature.name} has {name}", has[index]))
    return [one for one in found if one.rows.any() and not one.rows.all()]


def _texts(transforms: Transforms, feature: CategoricalFeature | MultiHotFeature, ids: np.ndarray) -> np.ndarray:
    """What encoded ids are called: the value itself where there is a vocabulary."""
    if feature.encoding.type != "vocabulary":
        return np.array([str(number) for number in ids])
    known = transforms.vocabularies[table_of(feature)]
    values = [known[number - 1] if number else b"(unknown)" for number in ids.tolist()]
    return np.array([value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values])

"""Which fields of the rows make slices, and what their values are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankine.errors import UsageError, did_you_mean
from rankine.models.columns import Batch
from rankine.models.schema import CategoricalFeature
from rankine.models.transforms import Transforms, table_of

__all__ = ["slice_columns", "training_counts"]

_DEFAULT_FIELDS = 4


def slice_columns(transforms: Transforms, batch: Batch, fields: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """By field, what each row has there, as text ``(rows,)``.

    Args:
        fields: names of categorical features; empty: up to four of those that have the fewest values in these rows,
            but more than one.

    Raises:
        UsageError: a field is no categorical feature.
    """
    known = {feature.name: feature for feature in transforms.schema.features if isinstance(feature, CategoricalFeature)}
    for name in fields:
        if name not in known:
            hint = did_you_mean(name, known) or "Use --no-slices: the model reads no categorical feature."
            raise UsageError("is no categorical feature", where="slices", got=name, hint=hint)
    ids = {name: _ids(batch, feature) for name, feature in known.items() if name in (fields or known)}
    distinct = {name: np.unique(values, return_inverse=True) for name, values in ids.items()}
    chosen = list(fields) or _fewest({name: len(values) for name, (values, _) in distinct.items()})
    return {name: _texts(transforms, known[name], distinct[name][0])[distinct[name][1]] for name in chosen}


def training_counts(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How often the id of each of ``rows`` occurs in ``train``, int64 ``(rows,)``."""
    values, counts = np.unique(train, return_counts=True)
    at = np.minimum(np.searchsorted(values, rows), len(values) - 1)
    return np.where(values[at] == rows, counts[at], 0)


def _fewest(counts: dict[str, int]) -> list[str]:
    """The fields with the fewest values, at least two, in the order of the schema."""
    varied = [name for name, count in counts.items() if count > 1]
    fewest = sorted(varied, key=lambda name: counts[name])[:_DEFAULT_FIELDS]
    return [name for name in varied if name in fewest]


def _ids(batch: Batch, feature: CategoricalFeature) -> np.ndarray:
    """The encoded ids of the rows, ``(rows,)``."""
    if feature.per_row:
        return np.asarray(batch.pair[feature.name])
    of_request = feature.side == "request"
    columns, index = (batch.request, batch.request_index) if of_request else (batch.item, batch.item_index)
    column: np.ndarray = np.asarray(columns[feature.name])[index]
    return column


def _texts(transforms: Transforms, feature: CategoricalFeature, ids: np.ndarray) -> np.ndarray:
    """What encoded ids are called: the value itself where there is a vocabulary."""
    if feature.encoding.type != "vocabulary":
        return np.array([str(number) for number in ids])
    known = transforms.vocabularies[table_of(feature)]
    values = [known[number - 1] if number else b"(unknown)" for number in ids.tolist()]
    return np.array([value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values])

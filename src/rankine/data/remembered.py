"""Ids of hashed values, remembered from chunk to chunk: most values of a column come again and again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import DenseFeature, Feature
from rankine.models.transforms import Transforms

__all__ = ["ChunkEncoder"]

_REMEMBERED = 2**18
"""Values of a feature: 3 MB. Those that come first are mostly those that come often."""


class ChunkEncoder:
    """Encodes chunks as :meth:`Transforms.encode` does, where values that were not seen in training are allowed."""

    def __init__(self, transforms: Transforms, features: Sequence[Feature]) -> None:
        hashed = [f for f in features if not isinstance(f, DenseFeature) and f.encoding.type == "hash"]
        self._memories = {
            feature.name: _Memory(transforms, feature) for feature in hashed if feature.kind == "categorical"
        }
        self._others = tuple(feature for feature in features if feature.name not in self._memories)
        self._transforms = transforms

    def encode(self, columns: Columns) -> dict[str, Column]:
        """Ids and numbers of raw columns.

        Raises:
            DataError: as :meth:`Transforms.encode`.
        """
        encoded = self._transforms.encode(self._others, columns, unseen="row")
        for name, memory in self._memories.items():
            encoded[name] = memory.ids(columns[name])
        return encoded


class _Memory:
    """The ids of a feature's values that were met, as two arrays sorted by the value's eight bytes."""

    def __init__(self, transforms: Transforms, feature: Feature) -> None:
        self._transforms, self._feature = transforms, feature
        self._words, self._ids = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def ids(self, values: Column) -> Column:
        """Ids of raw values, int32 ``(n,)``."""
        words = _as_words(values, self._feature.dtype)
        if words is None:
            return self._encode(values)
        distinct, index = np.unique(words, return_inverse=True)
        at = np.searchsorted(self._words, distinct)
        known = at < len(self._words)
        known[known] = self._words[at[known]] == distinct[known]
        ids = np.empty(len(distinct), np.int32)
        ids[known] = self._ids[at[known]]
        new = ~known
        ids[new] = np.asarray(self._encode(distinct[new].view(np.int64 if self._feature.dtype == "int64" else "S8")))
        if len(self._words) < _REMEMBERED:
            self._words = np.insert(self._words, at[new], distinct[new])
            self._ids = np.insert(self._ids, at[new], ids[new])
        return ids[index]

    def _encode(self, values: Column) -> Column:
        return self._transforms.encode((self._feature,), {self._feature.name: values}, unseen="row")[self._feature.name]


def _as_words(values: Column, dtype: str) -> np.ndarray | None:
    """Values as eight bytes each, which sort as fast as numbers; None where they are longer or not of ``dtype``."""
    if isinstance(values, Ragged):
        return None
    if dtype == "int64" and values.dtype == np.int64:
        return values.view(np.uint64)
    if dtype == "string" and values.dtype.kind == "S" and values.dtype.itemsize <= 8:
        return values.astype("S8").view(np.uint64)
    return None

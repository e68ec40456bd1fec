"""Features as rank bodies give them to encoded columns: defaults for what is left out, errors for what is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rankine.errors import BadRequest
from rankine.models.columns import Column, Columns
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature
from rankine.models.transforms import Transforms
from rankine.serving.inputs import as_float32, column_of, default_column, encode

__all__ = ["Given", "RequestEncoder", "encode_given"]

Given = Mapping[str, Any]
"""Values by feature, of those that were given."""

_CACHED_VALUES = 1024
_INFINITE = np.float32(np.inf)


class RequestEncoder:
    """Encodes the one value of each request feature.

    Encoding a single categorical value costs more in calls than in work, and values repeat (an hour, a country, a user
    who scrolls): the last ones of each feature are remembered. Cached columns are read-only; engines do not write them.
    """

    def __init__(self, transforms: Transforms) -> None:
        self._features = transforms.schema.request_features
        self._transforms = transforms
        self._encode_one = lru_cache(_CACHED_VALUES * max(1, len(self._features)))(self._encode_categorical)
        self._by_name = {feature.name: feature for feature in self._features}
        self._categorical = frozenset(each.name for each in self._features if isinstance(each, CategoricalFeature))
        self._numbers = Numbers(transforms, self._features)

    def encode(self, given: Given) -> Columns:
        """Columns of one row.

        Raises:
            BadRequest: a value is refused, or a required feature is missing.
        """
        columns = self._numbers.encode(given)
        for name, feature in self._by_name.items():
            if name in self._categorical and name in given:
                columns[name] = self._encode_one(name, given[name])
            elif name not in columns:
                columns |= encode_given(self._transforms, (feature,), given, None, "request")
        return columns

    def _encode_categorical(self, name: str, value: Any) -> Column:
        column = encode_given(self._transforms, (self._by_name[name],), {name: value}, None, "request")[name]
        if isinstance(column, np.ndarray):
            column.flags.writeable = False
        return column


class Numbers:
    """The dense request features of width 1, encoded together: by itself each costs some ten calls of numpy."""

    def __init__(self, transforms: Transforms, features: Sequence[Feature]) -> None:
        plain = [each for each in features if isinstance(each, DenseFeature) and each.width == 1]
        fitted = [transforms.normalization[each.name] for each in plain]
        self._names = [each.name for each in plain]
        self._mean = np.array([part.mean[0] for part in fitted], np.float32)
        self._std = np.array([part.std[0] for part in fitted], np.float32)
        self._logs = np.array([each.normalization == "log1p" for each in plain], np.bool_)
        self._above = np.where(self._logs, np.float32(-1), np.float32(-np.inf))

    def encode(self, given: Given) -> dict[str, Column]:
        """Columns ``(1, 1)`` of all of them, to the bit as one by one; none where one is missing or is refused: then
        it takes a look at each to say which."""
        if not self._names or any(name not in given for name in self._names):
            return {}
        values = as_float32(np.array([given[name] for name in self._names], np.float64))
        if not np.logical_and.reduce((values > self._above) & (values < _INFINITE)):
            return {}
        np.log1p(values, out=values, where=self._logs)
        values -= self._mean
        values /= self._std
        return dict(zip(self._names, values.reshape(-1, 1, 1), strict=True))


def encode_given(
    transforms: Transforms, features: Sequence[Feature], given: Given, rows: int | None, where: str
) -> Columns:
    """Columns of ``rows`` values each, or of the one value of a request (``rows`` None).

    Raises:
        BadRequest: names the field below ``where`` that is refused, or missing without a default.
    """
    columns: dict[str, Column] = {}
    for feature in features:
        if feature.name in given:
            values = given[feature.name] if rows is not None else [given[feature.name]]
            columns[feature.name] = column_of(feature, values, f"{where}.{feature.name}", one=rows is None)
            continue
        default = default_column(feature, rows or 1)
        if default is None:
            hint = f"It is a {feature.kind} {feature.side} feature of {feature.dtype}, without a default."
            raise BadRequest("required feature is missing", where=f"{where}.{feature.name}", hint=hint)
        columns[feature.name] = default
    return encode(transforms, tuple(features), columns, where)

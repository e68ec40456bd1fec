"""Transforms: raw columns to ids and numbers, fitted once, kept in the artifact, the same in training and serving."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.errors import ArtifactError, DataError
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    Hash,
    Identity,
    MultiHotFeature,
    Schema,
    SequenceFeature,
    TableFeature,
)

__all__ = ["Normalization", "Transforms"]

Unseen = Literal["policy", "row"]

OUT_OF_VOCABULARY = 0
_LARGEST_INT64 = 2**63 - 1
_FEW = 1024
_SCHEMA_FILE = "schema.json"
_TRANSFORMS_FILE = "transforms/transforms.json"


class Normalization(Frozen):
    """``(value - mean) / std`` per element, after ``log1p`` where the schema asks for it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class _Fitted(Frozen):
    schema_version: int = 1
    normalization: Mapping[str, Normalization] = Field(default_factory=dict)
    vocabularies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transforms:
    """A schema with what was fitted on training data.

    Attributes:
        schema: what is read.
        vocabularies: by table, the known values in sorted order (int64, or UTF-8 bytes).
        normalization: by dense feature.
    """

    schema: Schema
    vocabularies: Mapping[str, np.ndarray]
    normalization: Mapping[str, Normalization]

    @classmethod
    def fit(cls, schema: Schema, columns: Mapping[str, Column]) -> Transforms:
        """Learn vocabularies and normalizations from raw training columns (each row counts once)."""
        seen: dict[str, list[np.ndarray]] = {}
        normalization = {}
        for feature in schema.features:
            column = columns[feature.name]
            if isinstance(feature, DenseFeature):
                normalization[feature.name] = _fit_normalization(feature, _as_dense(feature, column))
            elif feature.encoding.type == "vocabulary":
                flat = column.values if isinstance(column, Ragged) else column
                seen.setdefault(table_of(feature), []).append(_comparable(feature, flat))
        vocabularies = {}
        for feature in schema.features:
            if not isinstance(feature, DenseFeature) and table_of(feature) in seen:
                values, counts = np.unique(np.concatenate(seen[table_of(feature)]), return_counts=True)
                least = feature.encoding.min_count if feature.encoding.type == "vocabulary" else 1
                vocabularies[table_of(feature)] = values[counts >= least]
        return cls(schema, vocabularies, normalization)

    def table_rows(self) -> dict[str, int]:
        """Rows of every embedding table, in the order of the schema."""
        rows: dict[str, int] = {}
        for feature in self.schema.features:
            if isinstance(feature, DenseFeature):
                continue
            match feature.encoding:
                case Hash(buckets=buckets):
                    rows[table_of(feature)] = buckets
                case Identity(size=size):
                    rows[table_of(feature)] = size
                case _:
                    rows[table_of(feature)] = 1 + len(self.vocabularies[table_of(feature)])
        return rows

    def encode(
        self, features: tuple[Feature, ...], columns: Columns, *, unseen: Unseen = "policy"
    ) -> dict[str, Column]:
        """Raw columns of ``features`` as ids and numbers: int32 ``(n,)``, ragged int32, or float32 ``(n, width)``.

        Args:
            unseen: what becomes of a value that is not in its vocabulary: what the schema says, or always the
                out-of-vocabulary row, as training and evaluation need it.

        Raises:
            DataError: names the feature whose values have the wrong type, are not finite, or are not allowed.
        """
        return {feature.name: self._encode(feature, columns[feature.name], unseen) for feature in features}

    def _encode(self, feature: Feature, column: Column, unseen: Unseen) -> Column:
        match feature:
            case DenseFeature():
                fitted = self.normalization[feature.name]
                values = _squash(feature, _as_dense(feature, column))
                mean, std = (np.array(part, np.float32) for part in (fitted.mean, fitted.std))
                return ((values - mean) / std).astype(np.float32)
            case MultiHotFeature() | SequenceFeature():
                if not isinstance(column, Ragged):
                    raise DataError("must be a list of values a row", where=feature.name, got=str(column.dtype))
                if isinstance(feature, SequenceFeature):
                    column = column.truncated(feature.max_length, keep_last=feature.truncation == "left")
                ids = self._ids(feature, column.values, unseen)
                if column.weights is not None and not self.schema.takes_weights(feature):
                    hint = "Give the values alone; in data, leave out 'weights' of the feature in the schema."
                    raise DataError("the model takes no weights of this list", where=feature.name, hint=hint)
                _refuse_padding(feature, ids, self.schema.padding.get(feature.name) if self.schema.call else None)
                return Ragged(ids, column.offsets.astype(np.int32), column.weights)
            case CategoricalFeature():
                if isinstance(column, Ragged):
                    raise DataError("must be one value a row", where=feature.name, got="a list")
                return self._ids(feature, column, unseen)

    def _ids(self, feature: TableFeature, values: np.ndarray, unseen: Unseen) -> np.ndarray:
        match feature.encoding:
            case Hash(buckets=buckets, seed=seed):
                return _hash(_comparable(feature, values), buckets, seed)
            case Identity(size=size):
                ids = _comparable(feature, values)
                bad = (ids < 0) | (ids >= size)
                if bad.any():
                    got, allowed = int(ids[bad][0]), f"0..{size - 1}"
                    hint = "Set the encoding's 'size' to the rows of the model's table, or leave such ids out."
                    raise DataError("id out of range", where=feature.name, got=got, allowed=allowed, hint=hint)
                return ids.astype(np.int32)
            case encoding:
                known = self.vocabularies[table_of(feature)]
                wanted = _comparable(feature, values)
                if len(known):
                    # Cut or pad to the vocabulary's width: searchsorted would else copy all of it to the wider type.
                    at = np.minimum(np.searchsorted(known, wanted.astype(known.dtype, copy=False)), len(known) - 1)
                    found = known[at] == wanted
                else:
                    at, found = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
                if unseen == "policy" and encoding.out_of_vocabulary == "error" and not found.all():
                    got = wanted[~found][0]
                    shown = got.decode(errors="replace") if isinstance(got, bytes) else int(got)
                    raise DataError("value is not in the vocabulary", where=feature.name, got=shown)
                return np.where(found, at + 1, OUT_OF_VOCABULARY).astype(np.int32)

    def write(self, draft: Draft) -> None:
        """Put schema and fitted values into an artifact."""
        draft.put_json(_SCHEMA_FILE, self.schema)
        fitted = _Fitted(normalization=self.normalization, vocabularies=tuple(self.vocabularies))
        draft.put_json(_TRANSFORMS_FILE, fitted)
        for table, values in self.vocabularies.items():
            draft.put_array(f"transforms/{table}.npy", values)

    @classmethod
    def read(cls, artifact: Artifact) -> Transforms:
        """Transforms as they were written; vocabularies are memory-mapped."""
        schema = artifact.read_json(_SCHEMA_FILE, Schema)
        fitted = artifact.read_json(_TRANSFORMS_FILE, _Fitted)
        vocabularies = {table: artifact.array(f"transforms/{table}.npy") for table in fitted.vocabularies}
        for table, values in vocabularies.items():
            if values.ndim != 1 or values.dtype.kind not in "iS":
                raise ArtifactError("a vocabulary must be one sorted column", where=table, got=str(values.dtype))
        _check_complete(artifact, schema, fitted)
        return cls(schema, vocabularies, fitted.normalization)

    def fingerprint(self) -> str:
        """Hash of the schema and everything fitted: equal for artifacts that read the same features alike."""
        digest = hashlib.sha256(self.schema.model_dump_json().encode())
        for table, values in sorted(self.vocabularies.items()):
            digest.update(table.encode() + str(values.dtype).encode() + values.tobytes())
        for name, fitted in sorted(self.normalization.items()):
            digest.update(name.encode() + fitted.model_dump_json().encode())
        return digest.hexdigest()[:16]


def table_of(feature: TableFeature) -> str:
    """Name of the embedding table that a feature reads."""
    return feature.table or feature.name


def _refuse_padding(feature: Feature, ids: np.ndarray, padding: int | None) -> None:
    """A model from elsewhere takes the id that fills up its lists for no value: it would count what it must not."""
    if padding is not None and (ids == padding).any():
        raise DataError(
            "a list holds the id that the model takes for padding",
            where=feature.name,
            got=padding,
            hint="Leave it out of the lists, or set the 'pad' that the model has under 'call' in the schema.",
        )


def _check_complete(artifact: Artifact, schema: Schema, fitted: _Fitted) -> None:
    """Refuse an artifact that lacks what its schema needs, when it is opened and not at the first request."""
    for feature in schema.features:
        if isinstance(feature, DenseFeature):
            normalization = fitted.normalization.get(feature.name)
            whole = normalization is not None and len(normalization.mean) == len(normalization.std) == feature.width
        else:
            whole = feature.encoding.type != "vocabulary" or table_of(feature) in fitted.vocabularies
        if not whole:
            where = str(artifact.file(_TRANSFORMS_FILE))
            raise ArtifactError(f"lacks what was fitted for feature '{feature.name}'", where=where)


def _comparable(feature: TableFeature, values: np.ndarray) -> np.ndarray:
    """Values in the form in which they are compared: int64, or UTF-8 bytes."""
    if feature.dtype == "int64":
        if values.dtype.kind not in "iu":
            raise DataError("must be integers", where=feature.name, got=str(values.dtype), allowed="int64")
        if values.dtype == np.uint64 and values.size and values.max() > _LARGEST_INT64:
            raise DataError("must fit int64", where=feature.name, got=int(values.max()), allowed=f"<= {_LARGEST_INT64}")
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "S":
        return values
    try:
        if values.dtype.kind == "U":
            return np.char.encode(values, "utf-8")
        if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
            ended = [value for value in values if value.endswith("\0")]
            if ended:  # arrays of fixed width drop it, so that two values would become one
                raise DataError("must not end in NUL", where=feature.name, got=repr(ended[0]))
            return np.array([value.encode() for value in values], dtype=bytes)
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can spell
        raise DataError("must be valid Unicode", where=feature.name, got=ascii(error.object)) from None
    raise DataError("must be strings", where=feature.name, got=str(values.dtype), allowed="string")


def _as_dense(feature: DenseFeature, column: Column) -> np.ndarray:
    """A dense column as float32 ``(n, width)``, finite."""
    if isinstance(column, Ragged) or column.dtype.kind not in "fiu":
        got = "a ragged list" if isinstance(column, Ragged) else str(column.dtype)
        raise DataError("must be numbers", where=feature.name, got=got, allowed="float32")
    width = 1 if column.ndim == 1 else int(np.prod(column.shape[1:]))
    if width != feature.width:
        raise DataError("has the wrong width", where=feature.name, got=width, allowed=str(feature.width))
    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite just below
        values = column.astype(np.float32).reshape(len(column), width)
    if not np.isfinite(values).all():
        raise DataError("must be finite", where=feature.name, got="NaN or infinity")
    if feature.normalization == "log1p" and (values <= -1).any():
        raise DataError("must be above -1 for log1p", where=feature.name, got=float(values.min()))
    return values


def _squash(feature: DenseFeature, values: np.ndarray) -> np.ndarray:
    return np.log1p(values) if feature.normalization == "log1p" else values


def _fit_normalization(feature: DenseFeature, values: np.ndarray) -> Normalization:
    if feature.normalization == "none":
        return Normalization(mean=(0.0,) * feature.width, std=(1.0,) * feature.width)
    squashed = _squash(feature, values).astype(np.float64)
    mean, std = squashed.mean(axis=0), squashed.std(axis=0)
    # A constant column has a spread of rounding errors only: dividing by it would blow up the first other value served.
    varies = std > np.maximum(1e-6 * np.abs(mean), float(np.finfo(np.float32).tiny))
    return Normalization(mean=tuple(mean.tolist()), std=tuple(np.where(varies, std, 1.0).tolist()))


def _hash(values: np.ndarray, buckets: int, seed: int) -> np.ndarray:
    """BLAKE2b keyed by the seed, modulo ``buckets``: the same on every machine and in every language."""
    key = seed.to_bytes(8, "little", signed=True)
    distinct, index = _distinct(values)
    raw = distinct.tolist()
    if distinct.dtype.kind != "S":
        raw = [value.to_bytes(8, "little", signed=True) for value in raw]
    digests = b"".join([hashlib.blake2b(value, digest_size=8, key=key).digest() for value in raw])
    ids = (np.frombuffer(digests, "<u8") % np.uint64(buckets)).astype(np.int32)
    return ids if index is None else ids[index]


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What is to be hashed: each value once, and where each row's is; few values as they are, which is faster."""
    if len(values) < _FEW:
        return values, None
    if values.dtype.kind == "S" and values.dtype.itemsize <= 8:  # sorted as integers: many times faster than as text
        words, index = np.unique(values.astype("S8").view(np.uint64), return_inverse=True)
        return words.view("S8"), index
    distinct, index = np.unique(values, return_inverse=True)
    return distinct, index

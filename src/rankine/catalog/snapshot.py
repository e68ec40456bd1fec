"""The catalog, first form: an immutable snapshot of all items, their external ids and raw static features.

On disk it is an artifact (stage ``catalog``) of its own, beside the model's::

    catalog.json                       number of items, dtype of the ids, features and their storage
    ids.npy                            external ids, sorted: int64, or UTF-8 bytes
    columns/<feature>.npy              one value (or one vector) an item
    columns/<feature>.values.npy       a ragged feature, with .offsets.npy and, if weighted, .weights.npy

Features are kept raw, so that one catalog serves every artifact of a schema; a server encodes them once, when it opens
the pair. Arrays are memory-mapped: processes share their pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.errors import ArtifactError, DataError, did_you_mean
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import Feature, MultiHotFeature, RaggedFeature, Schema

__all__ = ["Catalog", "catalog_beside", "write_catalog"]

_RECORD_FILE = "catalog.json"
UNKNOWN = -1


class _Record(Frozen):
    """``catalog.json``: what the snapshot holds. ``features`` maps each name to how it is stored."""

    schema_version: Literal[1] = 1
    items: int
    item_id: str
    item_id_dtype: Literal["int64", "string"]
    features: Mapping[str, Literal["plain", "ragged", "weighted"]]
    generation: int = 1


@dataclass(frozen=True)
class Catalog:
    """An opened snapshot.

    Attributes:
        artifact: the folder that holds it.
        item_ids: ``(items,)`` external ids, sorted and distinct: int64, or UTF-8 bytes. Row ``i`` is item ``i``.
        columns: raw static item features, one row an item, in the order of ``item_ids``.
        generation: of the store; a snapshot without a delta log is generation 1.
    """

    artifact: Artifact
    item_ids: np.ndarray
    columns: Columns
    generation: int = 1

    @classmethod
    def open(cls, path: Path | str) -> Catalog:
        """Open the snapshot at ``path``.

        Raises:
            ArtifactError: it is not there, not a catalog, or its columns do not fit together.
        """
        artifact = Artifact.open(path)
        if artifact.manifest.stage != "catalog" or _RECORD_FILE not in artifact:
            raise ArtifactError(
                "not a catalog", where=str(path), got=f"an artifact of stage '{artifact.manifest.stage}'"
            )
        record = artifact.read_json(_RECORD_FILE, _Record)
        columns = {name: _read_column(artifact, name, form) for name, form in record.features.items()}
        lengths = {"ids": len(_mapped(artifact, "ids.npy"))} | {name: len(column) for name, column in columns.items()}
        for name, length in lengths.items():
            if length != record.items:
                raise ArtifactError(
                    "has the wrong length", where=f"{path}: {name}", got=length, allowed=str(record.items)
                )
        return cls(artifact, _mapped(artifact, "ids.npy"), columns, record.generation)

    def __len__(self) -> int:
        return len(self.item_ids)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of external ids.

        Args:
            ids: ``(n,)`` int64, or UTF-8 bytes, as the catalog's own.

        Returns:
            int32 ``(n,)``; -1 where the catalog has no such item.

        Raises:
            DataError: ``ids`` are of the other kind than the catalog's.
        """
        known = self.item_ids
        if ids.dtype.kind != known.dtype.kind:
            allowed = "int64" if known.dtype.kind == "i" else "string"
            raise DataError("item ids are of the wrong type", where="ids", got=str(ids.dtype), allowed=allowed)
        if not len(known):
            return np.full(len(ids), UNKNOWN, np.int32)
        # Cut or pad to the catalog's width first: searchsorted would else copy the whole catalog to the wider type.
        wanted = ids.astype(known.dtype, copy=False)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[at] == ids, at, UNKNOWN).astype(np.int32)


def catalog_beside(artifact: Path | str) -> Path:
    """Where an artifact's catalog lies unless another place is given: ``<artifact>.catalog``."""
    path = Path(artifact)
    return path.parent / f"{path.name}.catalog"


def write_catalog(path: Path | str, schema: Schema, item_ids: np.ndarray, columns: Columns) -> Catalog:
    """Write a snapshot of all items.

    Args:
        path: of the new folder; nothing may be there yet.
        schema: names the static item features that ``columns`` must hold; other columns are left out.
        item_ids: ``(items,)`` external ids in any order, distinct: integers, strings or UTF-8 bytes.
        columns: raw features, one row an item, in the order of ``item_ids``.

    Raises:
        DataError: an id is given twice or has the wrong type, a feature is missing, or lengths differ.
        ArtifactError: something is already at ``path``.
    """
    ids = _as_ids(schema, item_ids)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        got = ids[twice[0]]
        shown = got.decode(errors="replace") if isinstance(got, bytes) else int(got)
        raise DataError("an item id is given twice", where=schema.item_id, got=shown, hint="Give one row an item.")
    name = Path(path).name.removesuffix(".catalog")
    draft = Draft("catalog", name=f"{name}.catalog")
    draft.put_array("ids.npy", ids)
    forms: dict[str, Literal["plain", "ragged", "weighted"]] = {}
    for feature in schema.catalog_features:
        column = _column_of(feature, columns, len(ids))
        forms[feature.name] = _write_column(draft, feature, column, order)
    record = _Record(items=len(ids), item_id=schema.item_id, item_id_dtype=schema.item_id_dtype, features=forms)
    draft.put_json(_RECORD_FILE, record)
    draft.commit(path)
    return Catalog.open(path)


def _as_ids(schema: Schema, ids: np.ndarray) -> np.ndarray:
    if schema.item_id_dtype == "string":
        return _as_bytes(schema.item_id, ids)
    if ids.dtype.kind not in "iu":
        raise DataError("item ids must be integers", where=schema.item_id, got=str(ids.dtype), allowed="int64")
    return _as_int64(schema.item_id, ids)


def _column_of(feature: Feature, columns: Columns, items: int) -> Column:
    if feature.name not in columns:
        hint = did_you_mean(feature.name, columns)
        raise DataError("the catalog needs a column for this item feature", where=feature.name, hint=hint)
    column = columns[feature.name]
    if len(column) != items:
        raise DataError("must have one row an item", where=feature.name, got=len(column), allowed=str(items))
    if isinstance(column, Ragged) != isinstance(feature, RaggedFeature):
        allowed = "a ragged column" if isinstance(feature, RaggedFeature) else "one value an item"
        raise DataError("has the wrong form", where=feature.name, allowed=allowed)
    if isinstance(feature, MultiHotFeature) and feature.pooling == "max" and _is_weighted(column):
        raise DataError("takes no weights: it is pooled by max", where=feature.name)
    return column


def _is_weighted(column: Column) -> bool:
    return isinstance(column, Ragged) and column.weights is not None


def _write_column(
    draft: Draft, feature: Feature, column: Column, order: np.ndarray
) -> Literal["plain", "ragged", "weighted"]:
    stem = f"columns/{feature.name}"
    if not isinstance(column, Ragged):
        draft.put_array(f"{stem}.npy", _storable(feature, column[order]))
        return "plain"
    sorted_column = column.take(order)
    draft.put_array(f"{stem}.values.npy", _storable(feature, sorted_column.values))
    draft.put_array(f"{stem}.offsets.npy", sorted_column.offsets)
    if sorted_column.weights is None:
        return "ragged"
    draft.put_array(f"{stem}.weights.npy", sorted_column.weights.astype(np.float32))
    return "weighted"


def _read_column(artifact: Artifact, name: str, form: Literal["plain", "ragged", "weighted"]) -> Column:
    stem = f"columns/{name}"
    if form == "plain":
        return _mapped(artifact, f"{stem}.npy")
    weights = _mapped(artifact, f"{stem}.weights.npy") if form == "weighted" else None
    return Ragged(_mapped(artifact, f"{stem}.values.npy"), _mapped(artifact, f"{stem}.offsets.npy"), weights)


def _mapped(artifact: Artifact, name: str) -> np.ndarray:
    """The same mapped pages as a plain array: every operation on NumPy's ``memmap`` class costs microseconds more."""
    return np.asarray(artifact.array(name))


def _storable(feature: Feature, values: np.ndarray) -> np.ndarray:
    """Values in the form in which files keep them: int64, float32, or UTF-8 bytes; never Python objects."""
    if feature.dtype == "string":
        return _as_bytes(feature.name, values)
    if values.dtype.kind not in ("fiu" if feature.dtype == "float32" else "iu"):
        raise DataError("has the wrong type", where=feature.name, got=str(values.dtype), allowed=feature.dtype)
    return _as_int64(feature.name, values) if feature.dtype == "int64" else values.astype(feature.dtype)


def _as_int64(where: str, values: np.ndarray) -> np.ndarray:
    """The same integers; unsigned ones that int64 cannot hold would silently become negative."""
    if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(
            "a value is out of int64's range", where=where, got=int(values.max()), allowed="up to 2**63 - 1"
        )
    return values.astype(np.int64)


def _as_bytes(where: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return values
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        return np.array([value.encode() for value in values], dtype=bytes)
    raise DataError("must be strings", where=where, got=str(values.dtype), allowed="string")

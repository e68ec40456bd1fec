"""``catalog.json``: what a snapshot holds, and the names of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog.derive import DerivedKey, column_names
from rankine.catalog.forms import PARTS, Form, column_from
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.columns import Column

__all__ = [
    "RECORD_FILE",
    "DerivedRecord",
    "SnapshotRecord",
    "folder_of",
    "mapped",
    "read_column",
    "read_record",
    "stem_of",
]

RECORD_FILE = "catalog.json"
FIRST_GENERATION = 1


class DerivedRecord(Frozen):
    """Derived columns of one key, and how wide each is."""

    key: DerivedKey
    widths: Mapping[str, int]


class SnapshotRecord(Frozen):
    """What the snapshot holds. ``features`` maps each name to how it is stored."""

    schema_version: Literal[1] = 1
    items: int
    item_id: str
    item_id_dtype: Literal["int64", "string"]
    features: Mapping[str, Form]
    generation: int = FIRST_GENERATION
    derived: tuple[DerivedRecord, ...] = ()

    def derived_names(self) -> list[str]:
        """Names of the arrays of all derived columns."""
        return [name for kept in self.derived for column in kept.widths for name in column_names(kept.key, column)]


def folder_of(generation: int) -> str:
    """What the names of a snapshot's files begin with: nothing for the first, so that it is a plain artifact."""
    return "" if generation == FIRST_GENERATION else f"generation-{generation}/"


def stem_of(column: str) -> str:
    """The name of a column's file, without what its parts append; derived columns have a folder in their name."""
    return column if "/" in column else f"columns/{column}"


def read_record(artifact: Artifact) -> tuple[SnapshotRecord, str]:
    """What an opened artifact holds as a catalog, and what the names of its files begin with.

    Raises:
        ArtifactError: it is no catalog.
    """
    names = [name for name in artifact.names() if name.split("/")[-1] == RECORD_FILE]
    if artifact.manifest.stage != "catalog" or len(names) != 1:
        got = f"an artifact of stage '{artifact.manifest.stage}'"
        raise ArtifactError("not a catalog", where=str(artifact.path), got=got)
    return artifact.read_json(names[0], SnapshotRecord), names[0].removesuffix(RECORD_FILE)


def read_column(artifact: Artifact, prefix: str, name: str, form: Form) -> Column:
    """A column of a snapshot, in mapped files."""
    return column_from([mapped(artifact, f"{prefix}{stem_of(name)}{part}.npy") for part in PARTS[form]])


def mapped(artifact: Artifact, name: str) -> np.ndarray:
    """The same mapped pages as a plain array: every operation on NumPy's ``memmap`` class costs microseconds more."""
    return np.asarray(artifact.array(name))

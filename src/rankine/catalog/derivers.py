"""What an artifact's variants store of an item: of each that runs in parts, what the catalog's part computes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog.derive import DerivedKey, Deriver, column_names
from rankine.compilation.binding.storage import STORED_PARTS
from rankine.compilation.compile import build_names, open_parts, runs_in_parts
from rankine.compilation.engine import Runner
from rankine.compilation.split_model import SplitModels, open_split
from rankine.compilation.split_runner import derive_items
from rankine.errors import ArtifactError
from rankine.models.columns import Columns
from rankine.models.graph_inputs import stored_column
from rankine.models.variant import load_model, variant_names

__all__ = ["derivers_of", "names_in_batches"]


def derivers_of(artifact: Artifact) -> tuple[Deriver, ...]:
    """One for each variant that computes anything of an item alone, if any build of it runs in these parts: what nobody
    reads is not stored. Its graph is opened when it is first used.

    Raises:
        ArtifactError: what was written of a variant's parts is not whole.
    """
    found = (_deriver(artifact, variant) for variant in variant_names(artifact) if _is_read(artifact, variant))
    return tuple(deriver for deriver in found if deriver is not None)


def names_in_batches(deriver: Deriver) -> dict[str, str]:
    """By the name of each stored array, the name under which a batch's items have it."""
    return {
        stored: stored_column(column) + part
        for column in deriver.widths
        for stored, part in zip(column_names(deriver.key, column), STORED_PARTS[deriver.key.storage], strict=True)
    }


def _is_read(artifact: Artifact, variant: str) -> bool:
    return any(runs_in_parts(artifact, variant, engine) for engine in build_names(artifact, variant))


def _deriver(artifact: Artifact, variant: str) -> Deriver | None:
    parts = open_split(load_model(artifact, variant), artifact.folder(f"variants/{variant}/split"))
    if parts.catalog is None:
        return None
    key = DerivedKey(variant=variant, graph=_digest(artifact, variant), storage=parts.storage)
    return Deriver(key, {value.name: value.width for value in parts.stored}, _CatalogPart(artifact, variant).compute)


def _digest(artifact: Artifact, variant: str) -> str:
    """Hash of all that decides what is stored: the catalog's graph, its columns, the tables, and what encodes items."""
    root = f"variants/{variant}"
    names = [f"{root}/split/catalog.onnx", f"{root}/split/layout.json", "schema.json"]
    names += [name for prefix in (f"{root}/tables/", "transforms/") for name in artifact.names(prefix)]
    lines = [f"{name.removeprefix(root)}\0{artifact.manifest.files[name].sha256}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass
class _CatalogPart:
    """The catalog's part of a variant."""

    artifact: Artifact
    variant: str

    def compute(self, items: Columns) -> Mapping[str, np.ndarray]:
        """See :class:`~rankine.catalog.derive.Derive`."""
        parts, runner = self._opened
        return derive_items(parts, runner, items)

    @cached_property
    def _opened(self) -> tuple[SplitModels, Runner]:
        parts, runner = open_parts(self.artifact, self.variant)
        if runner is None:
            raise ArtifactError("stores nothing of an item", where=f"{self.artifact.path}: {self.variant}")
        return parts, runner

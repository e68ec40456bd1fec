"""Variants in an artifact: where their graph, tables, builds and certificates lie, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.errors import ArtifactError, did_you_mean
from rankine.models.schema import Schema

__all__ = [
    "BASELINE",
    "Model",
    "Numeric",
    "Table",
    "Variant",
    "load_model",
    "read_variant",
    "variant_names",
    "write_tables",
]

BASELINE = "baseline"
Numeric = Literal["fp32", "int8"]


@dataclass(frozen=True)
class Table:
    """An embedding table: rows of float32 or float16, or of uint8 with a scale and bias a row.

    Attributes:
        rows: ``(vocabulary, dim)`` float32, float16 or uint8.
        scale, bias: ``(vocabulary,)`` float32 for uint8 (``value = rows * scale + bias``), else None.
    """

    rows: np.ndarray
    scale: np.ndarray | None = None
    bias: np.ndarray | None = None

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.rows, self.scale, self.bias) if part is not None)

    def dequantized(self, dtype: type[np.floating] = np.float32) -> np.ndarray:
        """All rows as floats, ``(vocabulary, dim)``."""
        rows = self.rows.astype(dtype)
        if self.scale is None or self.bias is None:
            return rows
        return rows * self.scale.astype(dtype)[:, None] + self.bias.astype(dtype)[:, None]


@dataclass(frozen=True)
class Model:
    """One variant of a model, in the form that engines build from.

    Attributes:
        name: of the variant.
        schema: gives the features in the order of the graph's inputs.
        graph: ONNX file; one float32 input ``(rows, width)`` per feature, named after it; output ``logits``
            ``(rows, tasks)``. Quantized graphs are in the canonical QDQ form.
        tables: by table name (a feature's ``table``, or its own name).
        numeric: of the graph.
        checkpoint: folder with the trained PyTorch module, for engines that run it, or None.
    """

    name: str
    schema: Schema
    graph: Path
    tables: Mapping[str, Table]
    numeric: Numeric = "fp32"
    checkpoint: Path | None = None


class Variant(Frozen):
    """One form of the model. Its files lie in ``variants/<name>/``: ``graph.onnx``, ``tables/``, ``checkpoint/``
    (the PyTorch module, if there is one), ``builds/<engine>/`` and ``certificates/``.

    Attributes:
        parent: the variant it was made from; None for the baseline.
        steps: what was done to it, one line a pass, with its settings.
        macs_per_row: multiply-adds of the dense graph for one row.
        tables: row type of each table, e.g. ``{"user": "float32"}``.
        validation_auc: AUC on the validation split (never the test split), where known.
    """

    schema_version: int = 1
    name: str
    parent: str | None = None
    numeric: Numeric
    steps: tuple[str, ...] = ()
    macs_per_row: int
    tables: Mapping[str, str]
    validation_auc: float | None = None
    details: Mapping[str, Any] = Field(default_factory=dict)


def variant_names(artifact: Artifact) -> list[str]:
    """Names of the variants, the baseline first."""
    names = {name.split("/")[1] for name in artifact.names("variants/")}
    return sorted(names, key=lambda name: (name != BASELINE, name))


def read_variant(artifact: Artifact, name: str) -> Variant:
    """The record of a variant.

    Raises:
        ArtifactError: there is no such variant.
    """
    if f"variants/{name}/variant.json" not in artifact:
        raise ArtifactError(
            f"has no variant '{name}'", where=str(artifact.path), hint=did_you_mean(name, variant_names(artifact))
        )
    return artifact.read_json(f"variants/{name}/variant.json", Variant)


def load_model(artifact: Artifact, name: str) -> Model:
    """A variant as engines take it; tables are memory-mapped."""
    variant = read_variant(artifact, name)
    root = f"variants/{name}"
    checkpoint = f"{root}/checkpoint"
    return Model(
        name=name,
        schema=artifact.read_json("schema.json", Schema),
        graph=artifact.file(f"{root}/graph.onnx"),
        tables={table: _read_table(artifact, f"{root}/tables/{table}") for table in variant.tables},
        numeric=variant.numeric,
        checkpoint=artifact.folder(checkpoint) if artifact.names(checkpoint + "/") else None,
    )


def write_tables(draft: Draft, variant: str, tables: Mapping[str, Table]) -> dict[str, str]:
    """Put a variant's tables into an artifact; returns their row types, as :class:`Variant` keeps them."""
    for name, table in tables.items():
        for part in ("rows", "scale", "bias"):
            values = getattr(table, part)
            if values is not None:
                draft.put_array(f"variants/{variant}/tables/{name}.{part}.npy", values)
    return {name: str(table.rows.dtype) for name, table in tables.items()}


def _read_table(artifact: Artifact, prefix: str) -> Table:
    scale, bias = (
        artifact.array(f"{prefix}.{part}.npy") if f"{prefix}.{part}.npy" in artifact else None
        for part in ("scale", "bias")
    )
    return Table(artifact.array(f"{prefix}.rows.npy"), scale, bias)

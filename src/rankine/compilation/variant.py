"""Variants in an artifact: where their graph, tables, builds and certificates lie, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from rankine.artifact import Artifact, Draft
from rankine.compilation.engine import Model, Numeric, Table
from rankine.config import Frozen
from rankine.errors import ArtifactError, did_you_mean
from rankine.models.schema import Schema

__all__ = ["BASELINE", "Build", "Variant", "load_model", "read_variant", "variant_names", "write_tables"]

BASELINE = "baseline"


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


class Build(Frozen):
    """What was built for one engine: ``variants/<variant>/builds/<engine>/build.json`` beside the engine's files."""

    schema_version: int = 1
    engine: str
    engine_version: str
    device: str
    numeric_form: str
    max_logit_error: float
    mean_logit_error: float
    verified_rows: int


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

"""Variants in an artifact: where their graph, tables, builds and certificates lie, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.errors import ArtifactError, did_you_mean
from rankine.models.graph_inputs import GraphInput
from rankine.models.schema import Schema
from rankine.models.table_files import read_table, write_table
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table

__all__ = [
    "BASELINE",
    "AnyTable",
    "MixedTable",
    "Model",
    "Numeric",
    "QuotientRemainderTable",
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
class Model:
    """One variant of a model, in the form that engines build from.

    Attributes:
        name: of the variant.
        schema: gives the features in the order of the graph's inputs; those that a pass has left out are missing.
        graph: ONNX file; one float32 input ``(rows, width)`` per feature, named after it; output ``logits``
            ``(rows, tasks)``. Quantized graphs are in the canonical QDQ form.
        tables: by table name (a feature's ``table``, or its own name).
        numeric: of the graph.
        checkpoint: folder with the trained PyTorch module, for engines that run it, or None.
        inputs: what the graph reads, in its order, where that is not one input per feature: a part of a split model.
    """

    name: str
    schema: Schema
    graph: Path
    tables: Mapping[str, AnyTable]
    numeric: Numeric = "fp32"
    checkpoint: Path | None = None
    inputs: tuple[GraphInput, ...] = ()


class Variant(Frozen):
    """One form of the model. Its files lie in ``variants/<name>/``: ``graph.onnx``, ``tables/``, ``checkpoint/``
    (the PyTorch module, if there is one), ``builds/<engine>/`` and ``certificates/``.

    Attributes:
        parent: the variant it was made from; None for the baseline.
        steps: what was done to it, one line a pass, with its settings.
        macs_per_row: multiply-adds of the dense graph for one row.
        features: what the graph reads, in its order; None for all of the schema's.
        tables: form of each table in words, e.g. ``{"user": "float32", "item": "mixed int8/int4"}``.
        validation_auc: AUC on the validation split (never the test split), where known.
    """

    schema_version: int = 1
    name: str
    parent: str | None = None
    numeric: Numeric
    steps: tuple[str, ...] = ()
    macs_per_row: int
    features: tuple[str, ...] | None = None
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
        schema=_schema_of(artifact, variant),
        graph=artifact.file(f"{root}/graph.onnx"),
        tables={table: read_table(artifact, f"{root}/tables/{table}") for table in variant.tables},
        numeric=variant.numeric,
        checkpoint=artifact.folder(checkpoint) if artifact.names(checkpoint + "/") else None,
    )


def _schema_of(artifact: Artifact, variant: Variant) -> Schema:
    """The artifact's schema, with the features that the variant reads."""
    schema = artifact.read_json("schema.json", Schema)
    if variant.features is None:
        return schema
    features = tuple(feature for feature in schema.features if feature.name in variant.features)
    return schema.model_copy(update={"features": features})


def write_tables(draft: Draft, variant: str, tables: Mapping[str, AnyTable]) -> dict[str, str]:
    """Put a variant's tables into an artifact; returns their forms, as :class:`Variant` keeps them."""
    for name, table in tables.items():
        write_table(draft, f"variants/{variant}/tables/{name}", table)
    return {name: table.form for name, table in tables.items()}

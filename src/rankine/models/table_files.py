"""The files of an embedding table in an artifact: ``<table>.json`` and an array for each part."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.tables import AnyTable, Combine, MixedTable, QuotientRemainderTable, Table

__all__ = ["TableRecord", "read_table", "write_table"]


class TableRecord(Frozen):
    """What of a table its arrays do not tell; beside them as ``<table>.json``.

    Attributes:
        kind: which class of :mod:`rankine.models.tables`.
        forms: of its parts: of a plain table itself; hot and cold; quotient and remainder.
        count, dim: its rows, and values in a row.
        combine: of a quotient-remainder table, else None.
    """

    schema_version: int = 1
    kind: Literal["plain", "mixed", "quotient-remainder"]
    forms: tuple[str, ...]
    count: int = Field(ge=0)
    dim: int = Field(ge=0)
    combine: Combine | None = None


def write_table(draft: Draft, prefix: str, table: AnyTable) -> None:
    """Put a table into an artifact, as files whose names begin with ``prefix``."""
    match table:
        case Table():
            _write_part(draft, prefix, table)
            record = TableRecord(kind="plain", forms=(table.form,), count=table.count, dim=table.dim)
        case MixedTable(hot=hot, cold=cold):
            _write_part(draft, f"{prefix}.hot", hot)
            _write_part(draft, f"{prefix}.cold", cold)
            draft.put_array(f"{prefix}.hot.bitmap.npy", table.bitmap)
            draft.put_array(f"{prefix}.hot.ranks.npy", table.ranks)
            record = TableRecord(kind="mixed", forms=(hot.form, cold.form), count=table.count, dim=table.dim)
        case QuotientRemainderTable(quotient=quotient, remainder=remainder):
            _write_part(draft, f"{prefix}.quotient", quotient)
            _write_part(draft, f"{prefix}.remainder", remainder)
            record = TableRecord(
                kind="quotient-remainder",
                forms=(quotient.form, remainder.form),
                count=table.count,
                dim=table.dim,
                combine=table.combine,
            )
    draft.put_json(f"{prefix}.json", record)


def _write_part(draft: Draft, prefix: str, table: Table) -> None:
    for part in ("rows", "scale", "bias"):
        values = getattr(table, part)
        if values is not None:
            draft.put_array(f"{prefix}.{part}.npy", values)


def read_table(artifact: Artifact, prefix: str) -> AnyTable:
    """The table that :func:`write_table` wrote; its arrays are memory-mapped.

    Raises:
        ArtifactError: a file is missing, or cannot be read. Whether its arrays fit each other is seen by ``check``,
            when a lookup is built.
    """
    if f"{prefix}.json" not in artifact:  # written before tables had other forms than floats and INT8
        return _read_part(artifact, prefix, None)
    record = artifact.read_json(f"{prefix}.json", TableRecord)
    names = {"plain": ("",), "mixed": (".hot", ".cold"), "quotient-remainder": (".quotient", ".remainder")}[record.kind]
    if len(record.forms) != len(names):
        where, got = f"{prefix}.json: forms", ", ".join(record.forms)
        raise ArtifactError("does not fit the kind of the table", where=where, got=got, allowed=f"{len(names)} forms")
    parts = [
        _read_part(artifact, prefix + name, record.dim if form == "int4" else None)
        for name, form in zip(names, record.forms, strict=True)
    ]
    if record.kind == "mixed":
        bitmap, ranks = (artifact.array(f"{prefix}.hot.{part}.npy") for part in ("bitmap", "ranks"))
        return MixedTable(parts[0], parts[1], bitmap, ranks, record.count)
    if record.kind == "quotient-remainder":
        return QuotientRemainderTable(parts[0], parts[1], record.count, record.combine or "product")
    return parts[0]


def _read_part(artifact: Artifact, prefix: str, columns: int | None) -> Table:
    scale, bias = (
        artifact.array(f"{prefix}.{part}.npy") if f"{prefix}.{part}.npy" in artifact else None
        for part in ("scale", "bias")
    )
    return Table(artifact.array(f"{prefix}.rows.npy"), scale, bias, columns)

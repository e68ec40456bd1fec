"""``rankine catalog get``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankine.cli.catalog_options import catalog_option, place_of, show_status, status_of
from rankine.cli.options import artifact_argument, json_option
from rankine.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from rankine.catalog import View
    from rankine.models.columns import Column

EPILOG = """\b
Examples:
  rankine catalog get runs/small
  rankine catalog get runs/small 1193 661 --json
  rankine catalog get runs/small 1193 --derived
"""


@click.command("get", epilog=EPILOG)
@artifact_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--derived", is_flag=True, help="Show also what is stored of each item for the variants.")
@catalog_option
@json_option
def command(artifact: Path, ids: tuple[str, ...], derived: bool, catalog: Path | None, as_json: bool) -> None:
    """Show items with their raw features; without ids, what the catalog holds."""
    import json

    from rankine.catalog import CatalogReader
    from rankine.catalog.rows import ids_of_texts

    reader = CatalogReader(place_of(artifact, catalog))
    if not ids:
        show_status(status_of(reader), as_json=as_json)
        return
    view = reader.view
    rows = view.rows_of(ids_of_texts(ids, reader.record.item_id_dtype))
    missing = [text for text, row in zip(ids, rows, strict=True) if row < 0]
    if missing:
        raise DataError("the catalog has no such item", where=str(reader.artifact.path), got=", ".join(missing))
    columns = {name: _values(column) for name, column in view.take(rows).items()}
    items: list[dict[str, Any]] = [
        {"id": text, "features": {name: values[at] for name, values in columns.items()}} for at, text in enumerate(ids)
    ]
    if derived:
        for item, stored in zip(items, _derived(view, rows), strict=True):
            item["derived"] = stored
    if as_json:
        click.echo(json.dumps({"generation": view.generation, "items": items}, indent=2, ensure_ascii=False))
        return
    for item in items:
        click.echo(json.dumps(item, ensure_ascii=False))


def _derived(view: View, rows: np.ndarray) -> list[dict[str, dict[str, list[float]]]]:
    """Of each row, the floats that are stored, by variant, graph and storage type, and by column."""
    found: list[dict[str, dict[str, list[float]]]] = [{} for _ in rows]
    for key in view.derived:
        tables = {name: table.dequantized().tolist() for name, table in view.take_derived(key, rows).items()}
        for at, item in enumerate(found):
            item[str(key)] = {name: values[at] for name, values in tables.items()}
    return found


def _values(column: Column) -> list[Any]:
    """What a person reads: numbers, texts and lists; weighted lists as pairs of value and weight."""
    from rankine.models.columns import Ragged

    if not isinstance(column, Ragged):
        return [_text(value) for value in column.tolist()]
    values = [_text(value) for value in column.values.tolist()]
    if column.weights is not None:
        values = list(zip(values, column.weights.tolist(), strict=True))
    return [values[start:end] for start, end in pairwise(column.offsets.tolist())]


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value

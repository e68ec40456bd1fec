"""``rankine catalog upsert``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.catalog_options import (
    CatalogChange,
    catalog_option,
    items_option,
    place_of,
    preparer_of,
    show_change,
)
from rankine.cli.options import artifact_argument, json_option

EPILOG = """\b
Example:
  rankine catalog upsert runs/small --items new-items.json
"""


@click.command("upsert", epilog=EPILOG)
@artifact_argument
@items_option("Items to add or replace: Parquet, CSV, JSON (a list, or an object a line).", required=True)
@catalog_option
@json_option
def command(artifact: Path, items: Path, catalog: Path | None, as_json: bool) -> None:
    """Add or replace items, all of the file in one generation.

    An item is given whole; features that have a default in the schema may be left out. What the catalog stores of it
    for the artifact's variants is computed too. When the verb ends, the items are on the disk.
    """
    from rankine.catalog import CatalogWriter
    from rankine.catalog.rows import read_items

    place, preparer = place_of(artifact, catalog), preparer_of(artifact)
    with CatalogWriter(place) as writer:
        change = preparer.only(writer.derived).prepare(*read_items(items, preparer.transforms.schema))
        done = CatalogChange(catalog=str(place), generation=writer.upsert(change), changed=len(change.ids))
    show_change(done, "upserted", as_json=as_json)

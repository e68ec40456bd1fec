"""``rankine catalog build``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.catalog_options import catalog_option, items_option, place_of, preparer_of, show_status, status_of
from rankine.cli.options import artifact_argument, json_option

EPILOG = """\b
Examples:
  rankine catalog build runs/small
  rankine catalog build runs/small --items items.parquet --catalog runs/new.catalog
"""


@click.command("build", epilog=EPILOG)
@artifact_argument
@items_option("Items of a new catalog (Parquet, CSV, JSON); without, those that the catalog holds.")
@catalog_option
@json_option
def command(artifact: Path, items: Path | None, catalog: Path | None, as_json: bool) -> None:
    """Store of every item what the artifact's variants read of it.

    With --items a new catalog is written. Without, the catalog that is there gets all derived columns anew, in its next
    generation; those of variants that the artifact does not have are dropped.
    """
    from rankine.artifact import refuse_existing
    from rankine.catalog import CatalogReader, CatalogWriter, build_catalog
    from rankine.catalog.rows import read_items

    place, preparer = place_of(artifact, catalog), preparer_of(artifact)
    if items is not None:
        refuse_existing(place)
        build_catalog(place, preparer, *read_items(items, preparer.transforms.schema))
    else:
        with CatalogWriter(place) as writer:
            writer.build(preparer)
    show_status(status_of(CatalogReader(place)), as_json=as_json)

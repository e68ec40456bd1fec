"""``rankine catalog delete``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.catalog_options import CatalogChange, catalog_option, items_option, place_of, show_change
from rankine.cli.options import artifact_argument, json_option
from rankine.errors import DataError, UsageError

EPILOG = """\b
Examples:
  rankine catalog delete runs/small 1193 661
  rankine catalog delete runs/small --items gone.csv
"""


@click.command("delete", epilog=EPILOG)
@artifact_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@items_option("File with the ids, in the column of the item id: Parquet, CSV, JSON.")
@click.option("--missing-ok", is_flag=True, help="Leave out ids that the catalog does not have.")
@catalog_option
@json_option
def command(
    artifact: Path, ids: tuple[str, ...], items: Path | None, missing_ok: bool, catalog: Path | None, as_json: bool
) -> None:
    """Delete items, all in one generation; none where the catalog does not have one of them."""
    import numpy as np

    from rankine.catalog import CatalogReader, CatalogWriter
    from rankine.catalog.rows import ids_of_texts, read_item_ids

    if bool(ids) == (items is not None):
        raise UsageError("ids are given either one by one or in a file", where="delete", allowed="ID... or --items")
    place = place_of(artifact, catalog)
    with CatalogWriter(place) as writer:
        reader = CatalogReader(place)
        record = reader.record
        wanted = (
            ids_of_texts(ids, record.item_id_dtype)
            if items is None
            else read_item_ids(items, record.item_id, record.item_id_dtype)
        )
        wanted = np.unique(wanted)
        known = reader.view.rows_of(wanted) >= 0
        if not missing_ok and not known.all():
            got = f"{(~known).sum()} unknown, the first {wanted[~known][0]}"
            hint = "Nothing was deleted. With --missing-ok they are left out."
            raise DataError("the catalog has no such item", where=str(place), got=got, hint=hint)
        generation = writer.delete(wanted[known]) if known.any() else writer.generation
    change = CatalogChange(catalog=str(place), generation=generation, changed=int(known.sum()))
    show_change(change, "deleted", as_json=as_json)

"""``rankine catalog compact``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.catalog_options import catalog_option, place_of, show_status, status_of
from rankine.cli.options import artifact_argument, json_option

EPILOG = """\b
Example:
  rankine catalog compact runs/small
"""


@click.command("compact", epilog=EPILOG)
@artifact_argument
@catalog_option
@json_option
def command(artifact: Path, catalog: Path | None, as_json: bool) -> None:
    """Fold the log into a new snapshot: the same items in the same generation, opened faster and in less memory.

    Servers go on with what they hold. Takes room for a second snapshot while it runs.
    """
    from rankine.catalog import CatalogReader, CatalogWriter

    place = place_of(artifact, catalog)
    with CatalogWriter(place) as writer:
        writer.compact()
    show_status(status_of(CatalogReader(place)), as_json=as_json)

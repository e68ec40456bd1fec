"""What the verbs of ``rankine catalog`` share: where the catalog lies, who prepares its items, how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rankine.config import Frozen

if TYPE_CHECKING:
    from rankine.catalog import CatalogReader, Preparer

__all__ = [
    "CatalogChange",
    "CatalogStatus",
    "catalog_option",
    "items_option",
    "place_of",
    "preparer_of",
    "show_change",
    "show_status",
    "status_of",
]

F = TypeVar("F", bound=Callable[..., Any])

catalog_option = click.option("--catalog", type=click.Path(path_type=Path), help="Catalog [default: ARTIFACT.catalog].")


def items_option(help_text: str, *, required: bool = False) -> Callable[[F], F]:
    """``--items FILE``."""
    return click.option("--items", type=click.Path(path_type=Path), required=required, help=help_text)


class CatalogChange(Frozen):
    """What a verb did: how many items it wrote or deleted, and the generation in which that is done."""

    catalog: str
    generation: int
    changed: int


class CatalogStatus(Frozen):
    """What a catalog holds; sizes in bytes.

    Attributes:
        features: how each raw static item feature is stored.
        derived: by variant, graph and storage type, floats that are stored of each item.
        snapshot_generation: the log holds what changed since.
    """

    catalog: str
    generation: int
    items: int
    item_id: str
    item_id_dtype: str
    features: Mapping[str, str]
    derived: Mapping[str, int]
    snapshot_generation: int
    snapshot_bytes: int
    log_bytes: int


def place_of(artifact: Path, catalog: Path | None) -> Path:
    """Where the catalog lies: as named, else beside the artifact."""
    from rankine.catalog import catalog_beside

    return catalog or catalog_beside(artifact)


def preparer_of(artifact: Path) -> Preparer:
    """Checks and encodes items as the artifact's model reads them, and computes what its variants store of them."""
    from rankine.artifact import Artifact
    from rankine.catalog import Preparer
    from rankine.catalog.derivers import derivers_of
    from rankine.models.transforms import Transforms

    opened = Artifact.open(artifact)
    return Preparer(Transforms.read(opened), derivers_of(opened))


def status_of(reader: CatalogReader) -> CatalogStatus:
    """What an opened catalog holds."""
    record, view = reader.record, reader.view
    return CatalogStatus(
        catalog=str(reader.artifact.path),
        generation=view.generation,
        items=len(view),
        item_id=record.item_id,
        item_id_dtype=record.item_id_dtype,
        features=record.features,
        derived={str(key): sum(widths.values()) for key, widths in view.derived.items()},
        snapshot_generation=record.generation,
        snapshot_bytes=reader.artifact.size_bytes(),
        log_bytes=reader.end[0],
    )


def show_status(status: CatalogStatus, *, as_json: bool) -> None:
    """Print what a catalog holds."""
    from rankine.cli.render import format_bytes, print_json, print_lines

    if as_json:
        print_json(status)
        return
    lines = [
        ("catalog", status.catalog),
        ("generation", f"{status.generation}, snapshot of {status.snapshot_generation}"),
        ("items", f"{status.items:,}, by '{status.item_id}' ({status.item_id_dtype})"),
        ("features", ", ".join(status.features) or "none"),
        ("size", f"snapshot {format_bytes(status.snapshot_bytes)}, log {format_bytes(status.log_bytes)}"),
    ]
    print_lines(lines + [("derived", f"{key}: {floats} values an item") for key, floats in status.derived.items()])


def show_change(change: CatalogChange, what: str, *, as_json: bool) -> None:
    """Print what a verb did, in words such as "upserted"."""
    from rankine.cli.render import print_json

    if as_json:
        print_json(change)
    else:
        click.echo(f"{change.changed:,} items {what}; {change.catalog} is at generation {change.generation}")

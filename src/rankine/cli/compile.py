"""``rankine compile``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import (
    DataOptions,
    SizeInBytes,
    artifact_argument,
    carry_catalog,
    check_out,
    data_options,
    json_option,
    out_option,
)

EPILOG = """\b
Example:
  rankine compile runs/compressed --data ml-1m --engine openvino --out runs/compiled
"""


@click.command("compile", epilog=EPILOG)
@artifact_argument
@data_options
@click.option(
    "--engine",
    "engines",
    multiple=True,
    help="Engine to build for, repeatable [default: all installed that build quickly].",
)
@click.option("--split/--no-split", default=True, show_default=True, help="Compute once what is known early.")
@click.option(
    "--storage",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Of what is stored of an item; anything but float32 changes scores a little.",
)
@click.option(
    "--catalog-bytes",
    type=SizeInBytes(),
    help="Most that what is stored of all items may take, e.g. 2GB [default: no limit].",
)
@out_option
@json_option
def command(
    artifact: Path,
    data: DataOptions,
    engines: tuple[str, ...],
    split: bool,
    storage: str,
    catalog_bytes: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Build every variant for every engine, and verify each on real rows against the float64 reference.

    A variant is also built in parts, where that leaves less to do for a candidate: what depends on the item alone is
    stored with the catalog, what depends on the request alone is computed once a request.
    """
    from rankine.artifact import Artifact
    from rankine.cli.inspect import show
    from rankine.cli.render import watch
    from rankine.compilation.binding import Settings
    from rankine.compilation.compile import compile_artifact
    from rankine.compilation.engines import load_engine
    from rankine.planning.optimize import verification_rows
    from rankine.training.record import check_same_schema

    check_out(out)
    for name in engines:
        load_engine(name)  # one that is missing is told of before the work, not after it
    parent, dataset = Artifact.open(artifact), data.open()
    check_same_schema(parent, dataset)
    rows_to_verify = verification_rows(parent, dataset)
    settings = None
    if split:
        items = 1 if catalog_bytes is None else _items_of(artifact)
        settings = Settings.model_validate({"storage": storage, "catalog_bytes": catalog_bytes, "items": items})
    with watch() as emit:
        child = compile_artifact(
            parent, engines=engines or None, split=settings, verify_batch=rows_to_verify, out=out, emit=emit
        )
    carry_catalog(artifact, out)
    show(child, as_json=as_json)


def _items_of(artifact: Path) -> int:
    """Items of the catalog beside an artifact; at least one.

    Raises:
        UsageError: there is no catalog.
    """
    from rankine.catalog import CatalogReader, catalog_beside
    from rankine.errors import UsageError

    place = catalog_beside(artifact)
    if not place.exists():
        raise UsageError(
            "needs to know how many items there are, and there is no catalog",
            where="--catalog-bytes",
            got=str(place),
            hint="Run `rankine catalog build` first, or leave the limit out.",
        )
    return max(1, len(CatalogReader(place).view))

"""Options that several verbs share, and the data set that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankine.data.dataset import Dataset

__all__ = ["artifact_argument", "carry_catalog", "data_options", "json_option", "open_dataset", "out_option"]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
artifact_argument = click.argument("artifact", type=click.Path(path_type=Path))


def out_option(default: str | None = None) -> Callable[[F], F]:
    """``--out DIR``: required unless there is a default."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=default,
        required=default is None,
        show_default=default is not None,
        help="Folder to write; must not exist.",
    )


def data_options(command: F) -> F:
    """``--data``, ``--schema``, ``--rows``, ``--seed``: which rows are read."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of generated or sampled rows."),
        click.option("--rows", type=click.IntRange(min=100), help="Use only this many rows (a seeded sample)."),
        click.option("--schema", type=click.Path(path_type=Path), help="Schema (YAML), for Parquet and CSV files."),
        click.option(
            "--data",
            default="synthetic",
            show_default=True,
            help="'synthetic', a MovieLens-1M folder, or Parquet/CSV files with --schema.",
        ),
    ):
        command = option(command)
    return command


def open_dataset(data: str, schema: Path | None, rows: int | None, seed: int) -> Dataset:
    """The data set that the options name."""
    from rankine.config import load_yaml
    from rankine.data import load_dataset
    from rankine.models.schema import Schema

    return load_dataset(data, schema=load_yaml(Schema, schema) if schema else None, rows=rows, seed=seed)


def carry_catalog(source: Path, out: Path) -> None:
    """Give the artifact at ``out`` the catalog of the one it was made from."""
    import shutil

    from rankine.catalog import catalog_beside

    if catalog_beside(source).exists() and not catalog_beside(out).exists():
        shutil.copytree(catalog_beside(source), catalog_beside(out), symlinks=True)

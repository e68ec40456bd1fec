"""Options that several verbs share, and what they name."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankine.artifact import Artifact
    from rankine.compression.context import CostModel
    from rankine.compression.recipe import Recipe
    from rankine.data.dataset import Dataset
    from rankine.events import Emit

__all__ = [
    "DataOptions",
    "SizeInBytes",
    "artifact_argument",
    "carry_catalog",
    "check_out",
    "cores_option",
    "cost_for",
    "data_options",
    "in_a_folder",
    "json_option",
    "margin_option",
    "out_option",
    "recipe_for",
    "recipe_option",
    "result_option",
]

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
artifact_argument = click.argument("artifact", type=click.Path(path_type=Path))
out_option = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder to write; must not exist."
)


def _check_margin(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value <= 1:  # also refuses NaN, which every range lets pass
        raise click.BadParameter("must be a difference of AUC: 0 < margin <= 1")
    return value


margin_option = click.option(
    "--margin",
    type=float,
    callback=_check_margin,
    default=0.001,
    show_default=True,
    help="Largest loss of AUC that is accepted.",
)
recipe_option = click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="Recipe (YAML) [default: distill, then INT8; INT8 alone for a model from elsewhere].",
)


def recipe_for(artifact: Artifact, path: Path | None) -> Recipe:
    """The recipe that ``--recipe`` names, or the default one for what the artifact holds."""
    from rankine.compression.recipe import read_recipe
    from rankine.models.checkpoint import is_trainable
    from rankine.models.variant import BASELINE, load_model

    return read_recipe(path, trainable=is_trainable(load_model(artifact, BASELINE)))


def cost_for(recipe: Recipe, table: Path | None, emit: Emit) -> CostModel | None:
    """The cost model of this machine where a pass of the recipe has a budget of time; measuring it takes a minute."""
    if recipe.timed_option is None:
        return None
    from rankine.planning.measure_latency import latency_model

    return latency_model(table, emit)


@dataclass(frozen=True)
class DataOptions:
    """Which rows are read: ``--data``, ``--schema``, ``--rows``, ``--seed``."""

    data: str
    schema: Path | None
    rows: int | None
    seed: int

    def open(self) -> Dataset:
        """The data set that the options name."""
        from rankine.config import load_yaml
        from rankine.data import load_dataset
        from rankine.models.schema import Schema

        schema = load_yaml(Schema, self.schema) if self.schema else None
        return load_dataset(self.data, schema=schema, rows=self.rows, seed=self.seed)

    def __str__(self) -> str:
        """The options as they are typed, to name the same rows again."""
        options = [f"--data {self.data}"]
        options += [f"--schema {self.schema}"] if self.schema else []
        options += [f"--rows {self.rows}"] if self.rows else []
        options += [f"--seed {self.seed}"] if self.seed else []
        return " ".join(options)


def data_options(command: F) -> Callable[..., Any]:
    """Add the data options; the command gets them as one ``data: DataOptions``."""

    @click.option(
        "--data",
        default="synthetic",
        show_default=True,
        help="'synthetic' or 'synthetic-criteo'; a folder with MovieLens-1M or behavior sequences; Criteo logs; "
        "or Parquet/CSV files with --schema.",
    )
    @click.option(
        "--schema",
        type=click.Path(path_type=Path),
        help="Schema (YAML), for Parquet and CSV files; for other data to read the same columns otherwise.",
    )
    @click.option("--rows", type=click.IntRange(min=100), help="Use only this many rows (a seeded sample).")
    @click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of generated or sampled rows."
    )
    @functools.wraps(command)
    def with_data(data: str, schema: Path | None, rows: int | None, seed: int, **others: Any) -> Any:
        return command(data=DataOptions(data, schema, rows, seed), **others)

    return with_data


def in_a_folder(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file to write whose folder is missing, before anything is done for it."""
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(f"the folder '{value.parent}' does not exist")
    return value


def result_option(command: F) -> F:
    """``--out FILE`` for a result."""
    option = click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=in_a_folder,
        help="Also write the result as JSON.",
    )
    return option(command)


def cores_option(help_text: str) -> Callable[[F], F]:
    """``--cores 0,1`` as a tuple of core numbers."""

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        try:
            return tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            raise click.BadParameter("must be core numbers separated by commas, such as 0,1") from None

    return click.option("--cores", callback=parse, help=help_text)


def check_out(out: Path) -> None:
    """Refuse an ``--out`` beside which anything lies that would be taken for this run's.

    Raises:
        ArtifactError: the folder, or its catalog, exists.
    """
    from rankine.artifact import refuse_existing
    from rankine.catalog import catalog_beside

    refuse_existing(out)
    refuse_existing(catalog_beside(out))


class SizeInBytes(click.ParamType[int]):
    """A number of bytes, also with a unit: 2GB, 512MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from pydantic import ByteSize, TypeAdapter, ValidationError

        try:
            return int(TypeAdapter(ByteSize).validate_python(value))
        except ValidationError:
            self.fail(f"'{value}' is no number of bytes; give one such as 2GB or 512MiB.", param, ctx)


def carry_catalog(source: Path, out: Path) -> None:
    """Give the artifact at ``out`` the catalog of the one it was made from; contents are shared where they can be."""
    from rankine.catalog import catalog_beside

    if catalog_beside(source).exists():
        shutil.copytree(catalog_beside(source), catalog_beside(out), symlinks=True, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    if Path(source).parent.name != "blobs":  # a log that is appended to must not be another catalog's too
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)

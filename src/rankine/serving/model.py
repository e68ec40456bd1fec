"""What a server serves: an artifact and a catalog, opened together, with one variant on one engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog import Catalog, catalog_beside
from rankine.compilation.compile import open_runner
from rankine.compilation.engine import Runner
from rankine.errors import ArtifactError, BadRequest, ConfigError
from rankine.events import Emit, ignore, step
from rankine.models.columns import Column, Columns, Ragged, concat
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
)
from rankine.models.transforms import OUT_OF_VOCABULARY, Transforms
from rankine.serving.config import ServeConfig
from rankine.serving.gate import Choice, choose
from rankine.serving.inputs import default_column

__all__ = ["ServedModel", "open_model", "unknown_item"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An opened model.

    Attributes:
        catalog: None where there is none, which only a model without static item features can do without.
        items: the catalog's static features, encoded once; with ``unknown_row``, one more row at the end.
        unknown_row: the row that stands for ids that the catalog does not have; None where they are refused.
    """

    artifact: Artifact
    catalog: Catalog | None
    transforms: Transforms
    choice: Choice
    runner: Runner
    items: Columns
    unknown_row: int | None

    @property
    def name(self) -> str:
        return self.artifact.name

    @property
    def version(self) -> str:
        return self.artifact.manifest.version

    @property
    def schema(self) -> Schema:
        return self.transforms.schema

    @property
    def generation(self) -> int:
        """Of the catalog; 0 where there is none."""
        return 0 if self.catalog is None else self.catalog.generation

    @property
    def item_count(self) -> int:
        """Items in the catalog."""
        return 0 if self.catalog is None else len(self.catalog)

    def item_rows(self, ids: np.ndarray, where: str) -> np.ndarray:
        """Rows in ``items`` of external ids, int32 ``(n,)``.

        A model without static item features reads nothing of an item: ids are then names for the reply only, and any
        will do.

        Raises:
            BadRequest: the catalog does not have an id, and unknown items are refused.
        """
        if self.catalog is None or not self.schema.catalog_features:
            return np.arange(len(ids), dtype=np.int32)
        rows = self.catalog.rows_of(ids)
        if rows.size and rows.min() < 0:
            first = int(np.argmax(rows < 0))
            if self.unknown_row is None:
                got = ids[first]
                raise BadRequest(
                    "unknown item: the catalog does not have it",
                    where=f"{where}[{first}]",
                    got=got.decode(errors="replace") if isinstance(got, bytes) else int(got),
                    hint="Give its static features inline, or start the server with unknown_item: row.",
                )
            rows[rows < 0] = self.unknown_row
        return rows


def open_model(config: ServeConfig, emit: Emit = ignore) -> ServedModel:
    """Open what ``config`` names.

    Raises:
        CertificateRequired: what would be served has no certificate that lets it.
        ArtifactError: artifact or catalog are missing or do not fit together.
        EngineMissing: the engine is not installed.
    """
    artifact = Artifact.open(config.artifact)
    choice = choose(artifact, variant=config.variant, engine=config.engine, allow_uncertified=config.allow_uncertified)
    transforms = _plain(Transforms.read(artifact))
    catalog, items = _open_catalog(config, transforms, emit)
    unknown_row = None
    if catalog is not None and config.unknown_item == "row":
        unknown_row = len(catalog)
        items = concat([items, unknown_item(transforms)])
    with step(emit, f"open {choice.variant} on {choice.engine}"):
        runner = open_runner(artifact, choice.variant, choice.engine, device=config.device, threads=config.threads)
    return ServedModel(artifact, catalog, transforms, choice, runner, items, unknown_row)


def _open_catalog(config: ServeConfig, transforms: Transforms, emit: Emit) -> tuple[Catalog | None, dict[str, Column]]:
    """The catalog that is named, or lies beside the artifact, and its encoded columns; None where there is none and the
    model can do without."""
    schema = transforms.schema
    path = config.catalog or catalog_beside(config.artifact)
    if not (path / "manifest.json").exists():
        if config.catalog is None and not schema.catalog_features:
            return None, {}
        hint = f"It is looked for at {path} unless you name another; training writes one beside its artifact."
        raise ArtifactError("the artifact's catalog is not there", where=str(path), hint=hint)
    with step(emit, "open the catalog") as advance:
        catalog = Catalog.open(path)
        _check_fit(schema, catalog)
        items = transforms.encode(schema.catalog_features, catalog.columns, unseen="row")
        advance(len(catalog), f"{len(catalog)} items")
    return catalog, items


def _plain(transforms: Transforms) -> Transforms:
    """The same with plain views of the mapped vocabularies, which are quicker to search than ``memmap`` objects."""
    vocabularies = {table: np.asarray(values) for table, values in transforms.vocabularies.items()}
    return Transforms(transforms.schema, vocabularies, transforms.normalization)


def _check_fit(schema: Schema, catalog: Catalog) -> None:
    kind = "i" if schema.item_id_dtype == "int64" else "S"
    if catalog.item_ids.dtype.kind != kind:
        got, where = str(catalog.item_ids.dtype), str(catalog.artifact.path)
        raise ArtifactError("the catalog's ids are of another type", where=where, got=got, allowed=schema.item_id_dtype)
    missing = [feature.name for feature in schema.catalog_features if feature.name not in catalog.columns]
    if missing:
        raise ArtifactError(
            "the catalog lacks item features that the model reads",
            where=str(catalog.artifact.path),
            got=f"without {', '.join(missing)}",
            hint="Write the catalog again with the artifact's schema.",
        )


def unknown_item(transforms: Transforms) -> dict[str, Column]:
    """One encoded item of which nothing is known: defaults, else out of vocabulary, empty lists, and averages."""
    row: dict[str, Column] = {}
    for feature in transforms.schema.catalog_features:
        default = default_column(feature, 1)
        if default is not None:
            row |= transforms.encode((feature,), {feature.name: default})
        else:
            row[feature.name] = _unknown_value(feature)
    return row


def _unknown_value(feature: Feature) -> Column:
    match feature:
        case DenseFeature(width=width):
            return np.zeros((1, width), np.float32)  # encoded values are centered: zero is the average
        case MultiHotFeature() | SequenceFeature():
            return Ragged(np.zeros(0, np.int32), np.zeros(2, np.int32))
        case CategoricalFeature(encoding=encoding) if encoding.type == "vocabulary":
            return np.array([OUT_OF_VOCABULARY], np.int32)
        case _:
            raise ConfigError(
                "unknown items cannot be scored: this feature has no out-of-vocabulary row",
                where=f"unknown_item: {feature.name}",
                hint="Give the feature a default in the schema, or keep unknown_item: error.",
            )

"""What a server serves: an artifact and a catalog, opened together, with one variant on one engine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from rankine.artifact import Artifact
from rankine.catalog import catalog_beside
from rankine.catalog.derivers import derivers_of, names_in_batches
from rankine.compilation.compile import open_runner, runs_in_parts
from rankine.compilation.engine import Runner
from rankine.compilation.split_runner import SplitRunner
from rankine.errors import ArtifactError, ConfigError, UsageError
from rankine.events import Emit, ignore, step
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Feature,
    MultiHotFeature,
    Schema,
    SequenceFeature,
)
from rankine.models.transforms import OUT_OF_VOCABULARY, Transforms
from rankine.planning.ladder import LadderStep, read_ladder
from rankine.serving.completion import Complete
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.cores import pinned
from rankine.serving.devices import PoolDevice, complete_on
from rankine.serving.gate import Choice, choose
from rankine.serving.inputs import default_column
from rankine.serving.items import Items, ServedCatalog
from rankine.serving.logs import LOGGER
from rankine.serving.rungs import ServedRung, VariantRunner, own_name

__all__ = ["ServedModel", "generation_of", "open_model", "unknown_item", "warn_of_memory"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An opened model.

    Attributes:
        choice: the best rung, and by which right it is served.
        rungs: what may run a request, the best first; one, unless the operator set a floor. Of a device pool, those of
            its first device.
        devices: of a device pool; empty where there is none.
        certified: all that may run a request is, not only the best rung.
        catalog: None where there is none, which only a model without static item features can do without.
        reads_items: the model has static item features.
    """

    artifact: Artifact
    catalog: ServedCatalog | None
    transforms: Transforms
    choice: Choice
    rungs: tuple[ServedRung, ...]
    devices: tuple[PoolDevice, ...] = ()
    certified: bool = True
    reads_items: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads_items", bool(self.schema.catalog_features))

    @property
    def runner(self) -> Runner:
        """Of the best rung."""
        return self.rungs[0].runner

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
    def items(self) -> Items | None:
        """The newest generation of the catalog that was read; None where there is no catalog.

        Another call may give another one: a request takes it once.
        """
        return None if self.catalog is None else self.catalog.items

    def find(self, items: Items | None, ids: np.ndarray, where: str) -> tuple[Items | Columns, np.ndarray]:
        """What a request for external ``ids (n,)`` of a generation refers to, and its rows in that, int32 ``(n,)``.

        A model without static item features reads nothing of an item: ids are then names for the reply only, and any
        will do.

        Raises:
            BadRequest: the catalog does not have an id, and unknown items are refused.
        """
        if items is None or not self.reads_items:
            return {}, np.arange(len(ids), dtype=np.int32)
        return items, items.rows_of(ids, where)


def generation_of(items: Items | None) -> int:
    """Of the catalog; 0 where there is none."""
    return 0 if items is None else items.generation


def open_model(config: ServeConfig, emit: Emit = ignore) -> ServedModel:
    """Open what ``config`` names.

    Raises:
        CertificateRequired: what would be served has no certificate that lets it.
        ArtifactError: artifact or catalog are missing or do not fit together.
        EngineMissing: the engine is not installed.
        UsageError: a device of a pool is to keep to cores that do not exist.
    """
    artifact = Artifact.open(config.artifact)
    steps = ladder_within(artifact, config.floor) if config.floor is not None else ()
    asked = config.device_pool or (None,)
    choices = [_choices(artifact, config, steps, one) for one in asked]  # all are allowed before any is opened
    transforms = _plain(Transforms.read(artifact))
    devices = tuple(_open_device(artifact, config, number, mine, steps, emit) for number, mine in enumerate(choices))
    stored: dict[str, str] = {}
    for one in [choice for mine in choices for choice in mine] if config.split else ():
        found = _stored_names(artifact, one)
        stored |= {name: own_name(one.variant, own) for name, own in found.items()} if len(choices[0]) > 1 else found
    catalog = _open_catalog(config, transforms, partial(complete_on, devices), stored, emit)
    pool = devices if config.device_pool else ()
    takes_any = bool(config.remote) and config.allow_uncertified
    certified = not takes_any and all(choice.certified for mine in choices for choice in mine)
    return ServedModel(artifact, catalog, transforms, choices[0][0], devices[0].rungs, pool, certified)


def ladder_within(artifact: Artifact, floor: float) -> tuple[LadderStep, ...]:
    """Rungs of the artifact's ladder that an operator who accepts a loss of ``floor`` allows, the best first.

    Raises:
        UsageError: the artifact has no ladder, or none of its rungs is within the floor.
    """
    ladder = read_ladder(artifact)
    hint = "`rankine optimize` with several recipes or --target writes one."
    if ladder is None:
        raise UsageError("the artifact has no ladder to step down", where="floor", got=floor, hint=hint)
    steps = tuple(one for one in ladder.rungs if one.margin <= floor)
    if not steps:
        allowed = ", ".join(f"{one.variant} at {one.margin:g}" for one in ladder.rungs) or "none: nothing was certified"
        raise UsageError("no rung is certified within the floor", where="floor", got=floor, allowed=allowed)
    return steps


def _choices(
    artifact: Artifact, config: ServeConfig, steps: tuple[LadderStep, ...], device: PoolDeviceConfig | None
) -> list[Choice]:
    """What a device serves: of the ladder's variants, the plan's or the named one, on its own engine if it has one."""
    own = device.engine if device is not None else None
    place = config.device if device is None else device.device
    pairs: list[tuple[str | None, str | None]] = [(one.variant, own or one.engine) for one in steps]
    return [
        choose(
            artifact,
            variant=variant,
            engine=engine,
            device=place,
            split=config.split,
            allow_uncertified=config.allow_uncertified,
        )
        for variant, engine in pairs or [(config.variant, own or config.engine)]
    ]


def _open_device(
    artifact: Artifact,
    config: ServeConfig,
    number: int,
    choices: list[Choice],
    steps: tuple[LadderStep, ...],
    emit: Emit,
) -> PoolDevice:
    """All rungs on a device: one of the pool, by its number, or the only one."""
    asked = config.device_pool[number] if config.device_pool else config
    cores = asked.cores if config.device_pool else None  # of the only one, the process keeps to them
    with pinned(cores, f"device_pool.{number}.cores"):  # threads that an engine starts when it opens stay there too
        rungs = tuple(
            _open_rung(artifact, config, asked, one, steps[at] if steps else None, emit, alone=len(choices) == 1)
            for at, one in enumerate(choices)
        )
    name = f"{choices[0].engine}-{number}" if config.device_pool else choices[0].engine
    return PoolDevice(name, rungs, asked.workers, cores)


def _open_rung(
    artifact: Artifact,
    config: ServeConfig,
    asked: PoolDeviceConfig | ServeConfig,
    choice: Choice,
    ladder_step: LadderStep | None,
    emit: Emit,
    *,
    alone: bool,
) -> ServedRung:
    """``asked``: says device, threads and, of a pool, options."""
    with step(emit, f"open {choice.variant} on {choice.engine}"):
        runner = open_runner(
            artifact,
            choice.variant,
            choice.engine,
            device=asked.device,
            threads=asked.threads,
            split=config.split,
            options=asked.options if isinstance(asked, PoolDeviceConfig) else None,
        )
    rung = ServedRung(
        choice.variant,
        choice.engine,
        runner if alone else VariantRunner(choice.variant, runner),
        form="parts" if isinstance(runner, SplitRunner) else "whole",
        choice=choice,
    )
    if ladder_step is None:
        return rung
    return replace(rung, margin=ladder_step.margin, loss=max(0.0, -ladder_step.ci_low))


def warn_of_memory(model: ServedModel) -> None:
    """Log what an opened model computed of items into memory and its catalog could hold, if anything; and how."""
    if model.catalog is None or not model.catalog.computed_bytes:
        return
    build = ["rankine", "catalog", "build", str(model.artifact.path), "--catalog", str(model.catalog.path)]
    fields = {"variant": model.choice.variant, "bytes": model.catalog.computed_bytes, "run": shlex.join(build)}
    LOGGER.warning("the catalog lacks what the variant stores of items: it is in memory", extra={"fields": fields})


def _open_catalog(
    config: ServeConfig, transforms: Transforms, complete: Complete, stored: Mapping[str, str], emit: Emit
) -> ServedCatalog | None:
    """The catalog that is named, or lies beside the artifact; None where there is none and the model can do without."""
    schema = transforms.schema
    path = config.catalog or catalog_beside(config.artifact)
    if not (path / "manifest.json").exists():
        if config.catalog is None and not schema.catalog_features:
            return None
        hint = f"It is looked for at {path} unless you name another; training writes one beside its artifact."
        raise ArtifactError("the artifact's catalog is not there", where=str(path), hint=hint)
    unknown = unknown_item(transforms) if config.unknown_item == "row" else None
    with step(emit, "open the catalog") as advance:
        catalog = ServedCatalog(path, transforms, unknown=unknown, complete=complete, stored=stored, advance=advance)
        advance(len(catalog.items), f"{len(catalog.items)} items")
    return catalog


def _stored_names(artifact: Artifact, choice: Choice) -> dict[str, str]:
    """Names of what a catalog may hold for the variant, and what the engine calls them; none of a whole graph."""
    if not runs_in_parts(artifact, choice.variant, choice.engine):
        return {}
    mine = [deriver for deriver in derivers_of(artifact) if deriver.key.variant == choice.variant]
    return {stored: name for deriver in mine for stored, name in names_in_batches(deriver).items()}


def _plain(transforms: Transforms) -> Transforms:
    """The same with plain views of the mapped vocabularies, which are quicker to search than ``memmap`` objects."""
    vocabularies = {table: np.asarray(values) for table, values in transforms.vocabularies.items()}
    return Transforms(transforms.schema, vocabularies, transforms.normalization)


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
                where="unknown_item",
                got=feature.name,
                hint="Give the feature a default in the schema, or leave `unknown_item` at 'error'.",
            )

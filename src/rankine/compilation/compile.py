"""Compile: every variant for every engine, each build held to the reference before it enters the artifact.

A variant is built whole, and in parts by when their values are known (:mod:`rankine.compilation.binding`) where that
leaves less to do for every row. What is opened is the form in parts, if there is one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.compilation.binding import BindingPlan, Settings
from rankine.compilation.build_variant import PARTS, build_variant, can_build, open_catalog, split_folder, take_apart
from rankine.compilation.engine import Build, Capabilities, ConfigurableEngine, Engine, Runner, RunsOn
from rankine.compilation.engines import check_known, installed, load_engine
from rankine.compilation.split_model import LAYOUT_FILE, PLAN_FILE, SplitModels, open_split
from rankine.compilation.split_runner import open_split_runner
from rankine.compilation.verify import reference_logits
from rankine.errors import ArtifactError, ConfigError, EngineError, EngineMissing, RankineError
from rankine.events import Emit, ignore, step
from rankine.models.columns import Batch
from rankine.models.variant import Model, load_model, variant_names

__all__ = [
    "build_names",
    "check_built",
    "compile_artifact",
    "is_split",
    "open_parts",
    "open_runner",
    "read_binding_plan",
    "read_build",
    "runs_in_parts",
    "runs_on",
]

_OF_WHAT_WAS_BUILT = ("plan.json", "ladder.json")
_SPLIT = Settings()


def compile_artifact(
    parent: Artifact,
    *,
    engines: Sequence[str] | None = None,
    split: Settings | None = _SPLIT,
    verify_batch: Batch,
    out: Path,
    emit: Emit = ignore,
) -> Artifact:
    """Build and verify all variants of ``parent`` and write the child artifact to ``out``.

    An engine that fails on a variant is told as a ``Failed`` event and left out; the rest goes on. Combinations that an
    engine's capabilities exclude are skipped.

    Args:
        engines: names; None for every installed engine that can be served from, but those that are built on request.
        split: how variants are taken apart; None: they are not.
        verify_batch: real rows on which each build is compared with the float64 reference.

    Raises:
        EngineMissing: an engine that was named is not installed.
        EngineError: a variant could be built for no engine.
    """
    chosen = [(name, load_engine(name)) for name in engines] if engines is not None else _serving_engines()
    refuse_existing(out)
    draft = Draft("compile", parent=parent)
    for stale in _OF_WHAT_WAS_BUILT:  # later stages write them for what is built now
        draft.remove(stale)
    for variant in variant_names(parent):
        model = load_model(parent, variant)
        reference = reference_logits(model, verify_batch)
        with tempfile.TemporaryDirectory(prefix="rankine-split-") as folder:
            parts = None if split is None else take_apart(model, split, Path(folder), emit)
            draft.remove(f"{split_folder(variant)}/")
            if parts is not None:
                draft.put_folder(split_folder(variant), Path(folder))
            _build_all(draft, model, parts, chosen, verify_batch, reference, emit)
    return draft.commit(out)


def _build_all(
    draft: Draft,
    model: Model,
    parts: SplitModels | None,
    engines: Sequence[tuple[str, Engine]],
    verify_batch: Batch,
    reference: np.ndarray,
    emit: Emit,
) -> None:
    """Build a variant for every engine that can run it."""
    failures: dict[str, RankineError] = {}
    built = 0
    for name, engine in engines:
        if not can_build(engine.capabilities(), model):
            continue
        try:
            with step(emit, f"compile {model.name} for {name}") as advance:
                advance(0, build_variant(draft, model, parts, name, engine, verify_batch, reference))
            built += 1
        except RankineError as error:
            failures[name] = error
    if not built:
        reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
        raise EngineError("could be built for no engine", where=model.name, got=reasons or "no engine that can run it")


def build_names(artifact: Artifact, variant: str) -> list[str]:
    """Names of the engines that a variant was built for."""
    names = artifact.names(f"variants/{variant}/builds/")
    return sorted({name.split("/")[3] for name in names if name.endswith("/build.json")})


def read_build(artifact: Artifact, variant: str, engine: str) -> Build:
    """The record of a build.

    Raises:
        ArtifactError: the variant was not built for this engine.
        EngineMissing: there is no such engine.
    """
    name = f"variants/{variant}/builds/{engine}/build.json"
    if name not in artifact:
        check_built(artifact, engine, variant)
    return artifact.read_json(name, Build)


def check_built(artifact: Artifact, engine: str, variant: str | None = None) -> None:
    """Refuse an engine that a variant was not built for; None: that no variant was.

    Raises:
        ArtifactError: tells what it was built for, and how to build for the engine.
        EngineMissing: there is no such engine.
    """
    variants = variant_names(artifact) if variant is None else [variant]
    built = sorted({name for one in variants for name in build_names(artifact, one)})
    if engine in built:
        return
    check_known(engine)
    what = "no variant was" if variant is None else f"variant '{variant}' was not"
    raise ArtifactError(
        f"{what} built for engine '{engine}'",
        where=str(artifact.path),
        got=f"built for {', '.join(built) or 'no engine'}",
        hint=f"Run `rankine compile` with --engine {engine}.",
    )


def runs_on(artifact: Artifact, variant: str, engine: str) -> RunsOn:
    """What computes the numbers of a build here, on the device that it was verified on when it was built.

    Raises:
        ArtifactError: there is no such build.
        EngineMissing: the engine is not installed.
    """
    return load_engine(engine).capabilities().runs_on(read_build(artifact, variant, engine).device)


def open_runner(
    artifact: Artifact,
    variant: str,
    engine: str,
    *,
    device: str | None = None,
    threads: int = 1,
    split: bool = True,
    options: Mapping[str, str] | None = None,
) -> Runner:
    """Open what :func:`compile_artifact` built.

    Args:
        device: None for the one that it was verified on when it was built.
        split: False for the whole graph also where it was built in parts.
        options: of the engine itself, where it has any.

    Raises:
        ArtifactError: there is no such variant or build.
        EngineMissing: the engine is not installed, or has no such device here.
        ConfigError: the engine does not have these options.
    """
    model = load_model(artifact, variant)
    device = read_build(artifact, variant, engine).device if device is None else device
    loaded = _configured(load_engine(engine), engine, options or {})
    known = loaded.capabilities()
    if device not in known.devices:
        raise EngineMissing(
            "has no such device here",
            where=engine,
            got=device,
            allowed=", ".join(known.devices),
            hint=known.device_hints.get(device),
        )
    if threads < 1:
        raise EngineError("needs at least one thread", where=engine, got=threads)
    folder = artifact.folder(f"variants/{variant}/builds/{engine}")
    if split and runs_in_parts(artifact, variant, engine):
        parts, catalog = open_parts(artifact, variant)
        return open_split_runner(loaded, parts, folder / PARTS, catalog, device=device, threads=threads)
    return loaded.open(model, folder, device=device, threads=threads)


def _configured(engine: Engine, name: str, options: Mapping[str, str]) -> Engine:
    if not options:
        return engine
    if not isinstance(engine, ConfigurableEngine):
        hint = "Check the spelling: what is no setting of a device is taken for an option of its engine."
        raise ConfigError("the engine has no options of its own", where=name, got=", ".join(options), hint=hint)
    return engine.configured(options)


def open_parts(artifact: Artifact, variant: str) -> tuple[SplitModels, Runner | None]:
    """A variant in parts, and the runner of the catalog's part, if it has one.

    Raises:
        ArtifactError: it was not taken apart.
    """
    folder = artifact.folder(split_folder(variant))
    parts = open_split(load_model(artifact, variant), folder)
    return parts, open_catalog(parts)


def is_split(artifact: Artifact, variant: str) -> bool:
    """Whether a variant was taken apart."""
    return f"{split_folder(variant)}/{PLAN_FILE}" in artifact


def read_binding_plan(artifact: Artifact, variant: str) -> BindingPlan:
    """How a variant was taken apart.

    Raises:
        ArtifactError: it was not.
    """
    return artifact.read_json(f"{split_folder(variant)}/{PLAN_FILE}", BindingPlan)


def runs_in_parts(artifact: Artifact, variant: str, engine: str) -> bool:
    """Whether a build is opened in parts: it has parts, and they are those of the variant as it was last taken apart.

    Raises:
        ArtifactError: there is no such build.
    """
    split = read_build(artifact, variant, engine).split
    return split is not None and split == _split_digest(artifact, variant)


def _split_digest(artifact: Artifact, variant: str) -> str | None:
    """Of what the parts of a build have to fit; None where the variant is whole."""
    blob = artifact.manifest.files.get(f"{split_folder(variant)}/{LAYOUT_FILE}")
    return None if blob is None else blob.sha256


def _serving_engines() -> list[tuple[str, Engine]]:
    return [
        (name, load_engine(name))
        for name, found in installed()
        if isinstance(found, Capabilities) and not found.oracle and not found.on_request
    ]

"""Compile: every variant for every engine, each build held to the reference before it enters the artifact.

A variant is built whole, and in parts by when their values are known (:mod:`rankine.compilation.binding`) where that
leaves less to do for every row. What is opened is the form in parts, if there is one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing, sha256_of
from rankine.compilation.binding import BindingPlan, Settings
from rankine.compilation.engine import Build, Capabilities, Engine, Runner, Target
from rankine.compilation.engines import installed, load_engine
from rankine.compilation.split_model import LAYOUT_FILE, PLAN_FILE, SplitModels, open_split, write_split
from rankine.compilation.split_runner import build_split, open_split_runner
from rankine.compilation.verify import Verification, reference_logits, verify_logits
from rankine.errors import ArtifactError, EngineError, EngineMissing, RankineError, did_you_mean
from rankine.events import Emit, ignore, step
from rankine.models.columns import Batch
from rankine.models.variant import Model, load_model, variant_names

__all__ = [
    "build_names",
    "compile_artifact",
    "is_split",
    "open_parts",
    "open_runner",
    "read_binding_plan",
    "read_build",
    "runs_in_parts",
]

_OF_WHAT_WAS_BUILT = ("plan.json", "ladder.json")
_SPLIT = Settings()
_SPLIT_FOLDER = "split"
_CATALOG_ENGINE = "onnxruntime"
"""Runs the catalog's part for all engines, which share what is stored of an item; serving always has it."""


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
        engines: names; None for every installed engine that can be served from.
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
            parts = None if split is None else _split(model, split, Path(folder), emit)
            draft.remove(f"{_split_folder(variant)}/")
            if parts is not None:
                draft.put_folder(_split_folder(variant), Path(folder))
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
        if not _can_build(engine.capabilities(), model):
            continue
        try:
            with step(emit, f"compile {model.name} for {name}") as advance:
                advance(0, _build_one(draft, model, parts, name, engine, verify_batch, reference))
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
    """
    name = f"variants/{variant}/builds/{engine}/build.json"
    if name not in artifact:
        known = build_names(artifact, variant)
        hint = did_you_mean(engine, known) or "Nothing was built for it yet."
        raise ArtifactError(
            f"variant '{variant}' was not built for engine '{engine}'",
            where=str(artifact.path),
            hint=f"{hint} Run `rankine compile` with --engine {engine}.",
        )
    return artifact.read_json(name, Build)


def open_runner(
    artifact: Artifact, variant: str, engine: str, *, device: str = "cpu", threads: int = 1, split: bool = True
) -> Runner:
    """Open what :func:`compile_artifact` built.

    Args:
        split: False for the whole graph also where it was built in parts.

    Raises:
        ArtifactError: there is no such variant or build.
        EngineMissing: the engine is not installed, or has no such device here.
    """
    model = load_model(artifact, variant)
    read_build(artifact, variant, engine)
    loaded = load_engine(engine)
    devices = loaded.capabilities().devices
    if device not in devices:
        raise EngineMissing("has no such device here", where=engine, got=device, allowed=", ".join(devices))
    if threads < 1:
        raise EngineError("needs at least one thread", where=engine, got=threads)
    folder = artifact.folder(f"variants/{variant}/builds/{engine}")
    if split and runs_in_parts(artifact, variant, engine):
        parts, catalog = open_parts(artifact, variant)
        return open_split_runner(loaded, parts, folder / _SPLIT_FOLDER, catalog, device=device, threads=threads)
    return loaded.open(model, folder, device=device, threads=threads)


def open_parts(artifact: Artifact, variant: str) -> tuple[SplitModels, Runner | None]:
    """A variant in parts, and the runner of the catalog's part, if it has one.

    Raises:
        ArtifactError: it was not taken apart.
    """
    folder = artifact.folder(_split_folder(variant))
    parts = open_split(load_model(artifact, variant), folder)
    return parts, _open_catalog(parts, folder)


def is_split(artifact: Artifact, variant: str) -> bool:
    """Whether a variant was taken apart."""
    return f"{_split_folder(variant)}/{PLAN_FILE}" in artifact


def read_binding_plan(artifact: Artifact, variant: str) -> BindingPlan:
    """How a variant was taken apart.

    Raises:
        ArtifactError: it was not.
    """
    return artifact.read_json(f"{_split_folder(variant)}/{PLAN_FILE}", BindingPlan)


def runs_in_parts(artifact: Artifact, variant: str, engine: str) -> bool:
    """Whether a build is opened in parts: it has parts, and they are those of the variant as it was last taken apart.

    Raises:
        ArtifactError: there is no such build.
    """
    split = read_build(artifact, variant, engine).split
    return split is not None and split == _split_digest(artifact, variant)


def _split_folder(variant: str) -> str:
    return f"variants/{variant}/{_SPLIT_FOLDER}"


def _split_digest(artifact: Artifact, variant: str) -> str | None:
    """Of what the parts of a build have to fit; None where the variant is whole."""
    blob = artifact.manifest.files.get(f"{_split_folder(variant)}/{LAYOUT_FILE}")
    return None if blob is None else blob.sha256


def _split(model: Model, settings: Settings, folder: Path, emit: Emit) -> SplitModels | None:
    """Take a variant apart; None where it stays whole."""
    with step(emit, f"split {model.name}") as advance:
        plan = write_split(model, settings, folder)
        if plan is None:
            advance(0, "stays whole: too little of it is known before the row")
            return None
        parts = open_split(model, folder)
        if parts.catalog is not None:
            (folder / "catalog").mkdir()
            load_engine(_CATALOG_ENGINE).build(parts.catalog, Target(), folder / "catalog")
        advance(0, f"{plan.work.share:.0%} of the multiply-adds are left for a row")
    return parts


def _open_catalog(parts: SplitModels, folder: Path) -> Runner | None:
    if parts.catalog is None:
        return None
    return load_engine(_CATALOG_ENGINE).open(parts.catalog, folder / "catalog")


def _serving_engines() -> list[tuple[str, Engine]]:
    return [
        (name, load_engine(name)) for name, found in installed() if isinstance(found, Capabilities) and not found.oracle
    ]


def _can_split(capabilities: Capabilities) -> bool:
    return not capabilities.needs_checkpoint and not capabilities.oracle


def _can_build(capabilities: Capabilities, model: Model) -> bool:
    if capabilities.needs_checkpoint and model.checkpoint is None:
        return False
    return model.numeric in capabilities.numerics


def _build_one(
    draft: Draft,
    model: Model,
    parts: SplitModels | None,
    name: str,
    engine: Engine,
    batch: Batch,
    reference: np.ndarray,
) -> str:
    """Build, open and verify in a folder of its own, then put it into the draft; returns a few words on it."""
    capabilities = engine.capabilities()
    form: str = model.numeric
    if capabilities.own_int8_form and model.numeric == "int8":
        form += f"-{name}"
    with tempfile.TemporaryDirectory(prefix="rankine-build-") as scratch:
        folder = Path(scratch)
        engine.build(model, Target(), folder)
        found = _verified(model, engine.open(model, folder), batch, reference)
        split = None
        if parts is not None and _can_split(capabilities):
            found = _build_parts(model, parts, engine, folder / _SPLIT_FOLDER, batch, reference)
            split = sha256_of(parts.folder / LAYOUT_FILE)
            form += "" if parts.storage == "float32" else f", items in {parts.storage}"
        prefix = f"variants/{model.name}/builds/{name}"
        draft.remove(f"{prefix}/")
        for kind in (f"quality-{name}.", f"parity-{name}."):  # what they were taken on is gone
            draft.remove(f"variants/{model.name}/certificates/{kind}")
        draft.put_folder(prefix, folder)
    build = Build(
        engine=name,
        engine_version=capabilities.version,
        device="cpu",
        numeric_form=form,
        max_logit_error=found.max_logit_error,
        mean_logit_error=found.mean_logit_error,
        verified_rows=found.rows,
        split=split,
    )
    draft.put_json(f"{prefix}/build.json", build)
    in_parts = "" if split is None else ", in parts"
    return f"largest logit error {found.max_logit_error:.1e} on {found.rows} rows{in_parts}"


def _build_parts(
    model: Model, parts: SplitModels, engine: Engine, folder: Path, batch: Batch, reference: np.ndarray
) -> Verification:
    """Build the parts into a new folder, and hold them to the reference of the whole."""
    folder.mkdir()
    build_split(engine, parts, Target(), folder)
    runner = open_split_runner(engine, parts, folder, _open_catalog(parts, parts.folder))
    return _verified(model, runner, batch, reference, rounded=parts.storage != "float32")


def _verified(
    model: Model, runner: Runner, batch: Batch, reference: np.ndarray, *, rounded: bool = False
) -> Verification:
    try:
        return verify_logits(model, runner, batch, reference, rounded=rounded)
    finally:
        runner.close()

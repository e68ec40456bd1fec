"""Compile: every variant for every engine, each build held to the reference before it enters the artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.compilation.engine import Build, Capabilities, Engine, Runner, Target
from rankine.compilation.engines import installed, load_engine
from rankine.compilation.verify import reference_logits, verify_logits
from rankine.errors import ArtifactError, EngineError, EngineMissing, RankineError, did_you_mean
from rankine.events import Emit, ignore, step
from rankine.models.columns import Batch
from rankine.models.variant import Model, load_model, variant_names

__all__ = ["build_names", "compile_artifact", "open_runner", "read_build"]

_OF_WHAT_WAS_BUILT = ("plan.json", "ladder.json")


def compile_artifact(
    parent: Artifact,
    *,
    engines: Sequence[str] | None = None,
    verify_batch: Batch,
    out: Path,
    emit: Emit = ignore,
) -> Artifact:
    """Build and verify all variants of ``parent`` and write the child artifact to ``out``.

    An engine that fails on a variant is told as a ``Failed`` event and left out; the rest goes on. Combinations that an
    engine's capabilities exclude are skipped.

    Args:
        engines: names; None for every installed engine that can be served from.
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
        failures: dict[str, RankineError] = {}
        built = 0
        for name, engine in chosen:
            if not _can_build(engine.capabilities(), model):
                continue
            try:
                with step(emit, f"compile {variant} for {name}") as advance:
                    advance(0, _build_one(draft, model, name, engine, verify_batch, reference))
                built += 1
            except RankineError as error:
                failures[name] = error
        if not built:
            reasons = "; ".join(f"{name}: {error}" for name, error in failures.items())
            raise EngineError("could be built for no engine", where=variant, got=reasons or "no engine that can run it")
    return draft.commit(out)


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


def open_runner(artifact: Artifact, variant: str, engine: str, *, device: str = "cpu", threads: int = 1) -> Runner:
    """Open what :func:`compile_artifact` built.

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
    return loaded.open(model, folder, device=device, threads=threads)


def _serving_engines() -> list[tuple[str, Engine]]:
    return [
        (name, load_engine(name)) for name, found in installed() if isinstance(found, Capabilities) and not found.oracle
    ]


def _can_build(capabilities: Capabilities, model: Model) -> bool:
    if capabilities.needs_checkpoint and model.checkpoint is None:
        return False
    return model.numeric in capabilities.numerics


def _build_one(draft: Draft, model: Model, name: str, engine: Engine, batch: Batch, reference: np.ndarray) -> str:
    """Build, open and verify in a folder of its own, then put it into the draft; returns a few words on it."""
    capabilities = engine.capabilities()
    own_form = capabilities.own_int8_form and model.numeric == "int8"
    with tempfile.TemporaryDirectory(prefix="rankine-build-") as scratch:
        folder = Path(scratch)
        engine.build(model, Target(), folder)
        runner = engine.open(model, folder)
        try:
            found = verify_logits(model, runner, batch, reference)
        finally:
            runner.close()
        prefix = f"variants/{model.name}/builds/{name}"
        draft.remove(f"{prefix}/")
        for kind in (f"quality-{name}.", f"parity-{name}."):  # what they were taken on is gone
            draft.remove(f"variants/{model.name}/certificates/{kind}")
        draft.put_folder(prefix, folder)
    build = Build(
        engine=name,
        engine_version=capabilities.version,
        device="cpu",
        numeric_form=f"{model.numeric}-{name}" if own_form else model.numeric,
        max_logit_error=found.max_logit_error,
        mean_logit_error=found.mean_logit_error,
        verified_rows=found.rows,
    )
    draft.put_json(f"{prefix}/build.json", build)
    return f"largest logit error {found.max_logit_error:.1e} on {found.rows} rows"

"""Scores of an artifact's variants as their engines compute them, and which engine of a variant comes first."""

from __future__ import annotations

import math

import numpy as np

from rankine.artifact import Artifact
from rankine.compilation.compile import build_names, open_runner, runs_on
from rankine.compilation.engines import load_engine
from rankine.compilation.fastest import median_ms, task_count
from rankine.errors import ArtifactError
from rankine.events import Emit, ignore, step
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE

__all__ = ["baseline_engine", "score", "served_engines", "stands_in", "timings_ms"]

_SCORE_ROWS = 1024
_TIMED_ROWS = 512


def score(
    artifact: Artifact, variant: str, engine: str, batch: Batch, emit: Emit = ignore, *, device: str | None = None
) -> np.ndarray:
    """Logits as this engine computes them on ``device``, or on the one it was built on; float32 ``(rows, tasks)``."""
    runner = open_runner(artifact, variant, engine, device=device)
    logits = np.empty((batch.rows, task_count(artifact)), np.float32)
    try:
        with step(emit, f"score {variant} on {engine}", total=batch.rows, unit="rows") as advance:
            for start in range(0, batch.rows, _SCORE_ROWS):
                part = batch.select(slice(start, start + _SCORE_ROWS))
                runner.run(part, logits[start : start + part.rows])
                advance(start + part.rows, "")
    finally:
        runner.close()
    return logits


def baseline_engine(artifact: Artifact) -> str:
    """The engine that speaks for the baseline: the one that runs the trained module itself, where it was built.

    Raises:
        ArtifactError: the baseline was not compiled.
    """
    built = build_names(artifact, BASELINE)
    if not built:
        raise ArtifactError(
            "was not compiled", where=str(artifact.path), hint="Run `rankine compile` first, or `rankine optimize`."
        )
    return next((name for name in built if load_engine(name).capabilities().needs_checkpoint), built[0])


def served_engines(artifact: Artifact, variant: str) -> list[str]:
    """Engines that a variant was built for and can be served from, what only stands in for a chip last; an oracle
    never is.

    Raises:
        ArtifactError: there are none.
    """
    served = [name for name in build_names(artifact, variant) if not load_engine(name).capabilities().oracle]
    if not served:
        raise ArtifactError(
            f"variant '{variant}' was built for no engine to serve from",
            where=str(artifact.path),
            hint="Run `rankine compile` without --engine, or name another one.",
        )
    return sorted(served, key=lambda name: stands_in(artifact, variant, name))


def timings_ms(artifact: Artifact, variant: str, batch: Batch, emit: Emit) -> dict[str, float]:
    """Median milliseconds per call at 512 rows by engine, fastest first; infinite of what only stands in for a chip.

    Raises:
        ArtifactError: the variant was built for no engine that it can be served from, or only for such stand-ins.
    """
    some = batch.select(slice(0, _TIMED_ROWS))
    names = served_engines(artifact, variant)
    chips = [name for name in names if not stands_in(artifact, variant, name)]
    if not chips:
        raise ArtifactError(
            f"variant '{variant}' was built for nothing that can be timed",
            where=str(artifact.path),
            got=", ".join(names),
            hint="Run `rankine compile` for an engine that runs on the chip itself, beside these.",
        )
    runners = {name: open_runner(artifact, variant, name) for name in chips}
    try:
        with step(emit, f"time engines of {variant}"):
            timings = median_ms({name: (runner, some) for name, runner in runners.items()}, task_count(artifact))
    finally:
        for runner in runners.values():
            runner.close()
    return dict(sorted(timings.items(), key=lambda found: found[1])) | {
        name: math.inf for name in names if name not in timings
    }


def stands_in(artifact: Artifact, variant: str, engine: str) -> bool:
    """Whether a build runs on what only stands in for a chip, so that it is never timed."""
    return runs_on(artifact, variant, engine) != "chip"

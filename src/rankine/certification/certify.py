"""``certify``: every compiled variant against the baseline on the test split, and the plan of what is to be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft
from rankine.certification.parity import certify_parity
from rankine.certification.plan import PLAN_FILE, Plan, parity_file, quality_file
from rankine.certification.quality import QualityCertificate, certify_quality
from rankine.compilation.compile import build_names, open_runner, read_build
from rankine.compilation.engines import load_engine
from rankine.compilation.fastest import median_ms
from rankine.compression.compress import check_same_data
from rankine.data.dataset import Dataset
from rankine.errors import ArtifactError
from rankine.events import Emit, Note, ignore, step
from rankine.models.columns import Batch
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, variant_names

__all__ = ["certify", "score"]

_SCORE_ROWS = 1024
_TIMED_ROWS = 512


@dataclass(frozen=True)
class _TestRows:
    batch: Batch
    labels: np.ndarray
    clusters: Mapping[str, np.ndarray]
    provenance: Mapping[str, str]


def certify(parent: Artifact, dataset: Dataset, *, margin: float = 0.001, out: Path, emit: Emit = ignore) -> Artifact:
    """Test every compiled variant on the test split and write a child artifact with certificates and a plan.

    For each variant the fastest engine is primary and gets the quality certificate. Another engine of the same
    numeric form gets a parity certificate; one that builds a form of its own gets a quality certificate of its own.
    The baseline is its own reference: its certificates say that engines agree with it.

    The plan names the fastest pair whose quality certificate passed; without one there is no plan file, and `serve`
    refuses the artifact.

    Args:
        dataset: the one that the baseline was trained on; its test rows decide.
        margin: the largest loss of AUC that is accepted.
    """
    rows = _test_rows(parent, dataset)
    draft = Draft("certify", parent=parent)
    draft.remove(PLAN_FILE)
    with step(emit, "score baseline", total=rows.batch.rows, unit="rows"):
        baseline = score(parent, BASELINE, _baseline_engine(parent), rows.batch)
    passed: list[Plan] = []
    for variant in variant_names(parent):
        draft.remove(f"variants/{variant}/certificates/")
        timings = _timings(parent, variant, rows.batch, emit)
        primary = min(timings, key=lambda name: timings[name])
        for engine in timings:
            certificate = _certify_one(parent, draft, variant, engine, primary, rows, baseline, margin, emit)
            if certificate is not None and certificate.passed:
                passed.append(Plan(variant=variant, engine=engine, p50_ms_512=timings[engine]))
    if passed:
        draft.put_json(PLAN_FILE, min(passed, key=lambda plan: plan.p50_ms_512))
    return draft.commit(out)


def score(artifact: Artifact, variant: str, engine: str, batch: Batch) -> np.ndarray:
    """Logits of the first task as this engine computes them, float32 ``(rows,)``."""
    runner = open_runner(artifact, variant, engine)
    logits = np.empty((batch.rows, 1), np.float32)
    try:
        for start in range(0, batch.rows, _SCORE_ROWS):
            part = batch.select(slice(start, start + _SCORE_ROWS))
            runner.run(part, logits[start : start + part.rows])
    finally:
        runner.close()
    return logits[:, 0]


def _certify_one(
    parent: Artifact,
    draft: Draft,
    variant: str,
    engine: str,
    primary: str,
    rows: _TestRows,
    baseline: np.ndarray,
    margin: float,
    emit: Emit,
) -> QualityCertificate | None:
    """Put the certificate of one (variant, engine); returns it if it is one of quality."""
    build, provenance = read_build(parent, variant, engine), dict(rows.provenance)
    provenance["build"] = parent.manifest.files[f"variants/{variant}/builds/{engine}/build.json"].sha256
    with step(emit, f"certify {variant} on {engine}", total=rows.batch.rows, unit="rows"):
        logits = score(parent, variant, engine, rows.batch)
        if engine != primary and build.numeric_form == read_build(parent, variant, primary).numeric_form:
            parity = certify_parity(
                rows.labels,
                score(parent, variant, primary, rows.batch),
                logits,
                margin=margin,
                variant=variant,
                engine=engine,
                device=build.device,
                instruction_set="native",
                reference_engine=primary,
                provenance=provenance,
            )
            draft.put_json(parity_file(variant, engine), parity)
            emit(Note("parity", f"{variant} on {engine}: {'admitted' if parity.admitted else 'NOT admitted'}"))
            return None
        quality = certify_quality(
            rows.labels,
            baseline,
            logits,
            margin=margin,
            clusters=rows.clusters,
            variant=variant,
            engine=engine,
            provenance=provenance,
        )
    draft.put_json(quality_file(variant, engine), quality)
    figures = {"AUC change": quality.delta, "lower bound": quality.ci_low, "margin": margin}
    emit(Note("certificate", f"{variant} on {engine}: {quality.verdict}", figures))
    return quality


def _test_rows(artifact: Artifact, dataset: Dataset) -> _TestRows:
    check_same_data(artifact, dataset)
    test = dataset.splits().test
    provenance = {
        "artifact": artifact.digest,
        "baseline_graph": artifact.manifest.files[f"variants/{BASELINE}/graph.onnx"].sha256,
        "split": dataset.schema.split.model_dump_json(),
        **{f"data.{key}": value for key, value in dataset.provenance.items()},
    }
    batch = dataset.encode(Transforms.read(artifact)).select(test)
    return _TestRows(batch, dataset.labels[test], dataset.clusters(test), provenance)


def _baseline_engine(artifact: Artifact) -> str:
    """The engine that speaks for the baseline: the one that runs the trained module itself, where it was built."""
    built = build_names(artifact, BASELINE)
    if not built:
        raise ArtifactError(
            "was not compiled", where=str(artifact.path), hint="Run `rankine compile` first, or `rankine optimize`."
        )
    return next((name for name in built if load_engine(name).capabilities().needs_checkpoint), built[0])


def _timings(artifact: Artifact, variant: str, batch: Batch, emit: Emit) -> dict[str, float]:
    """Median milliseconds per call at 512 rows, by engine; an oracle is never served, so it is not timed."""
    some = batch.select(slice(0, _TIMED_ROWS))
    served = [name for name in build_names(artifact, variant) if not load_engine(name).capabilities().oracle]
    runners = {name: open_runner(artifact, variant, name) for name in served}
    try:
        with step(emit, f"time engines of {variant}"):
            return median_ms({name: (runner, some) for name, runner in runners.items()})
    finally:
        for runner in runners.values():
            runner.close()

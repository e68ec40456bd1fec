"""``certify``: every compiled variant against the baseline on the test split, and the plan of what is to be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.certification.parity import certify_parity
from rankine.certification.plan import PLAN_FILE, SERVED, Pair, Plan, deciding, parity_file, quality_file, served_digest
from rankine.certification.quality import QualityCertificate, certify_quality, check_margin
from rankine.compilation.compile import build_names, open_runner, read_build
from rankine.compilation.engines import load_engine
from rankine.compilation.fastest import median_ms, task_count
from rankine.data.dataset import Dataset
from rankine.data.labels import check_classes
from rankine.errors import ArtifactError
from rankine.events import Emit, Note, ignore, step
from rankine.models.columns import Batch
from rankine.models.schema import Task
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, variant_names
from rankine.training.record import check_same_data

__all__ = ["certify", "score"]

_SCORE_ROWS = 1024
_TIMED_ROWS = 512


@dataclass(frozen=True)
class _TestRows:
    """The rows of the test split; ``labels`` are ``(rows, tasks)``."""

    batch: Batch
    labels: np.ndarray
    tasks: tuple[Task, ...]
    clusters: Mapping[str, np.ndarray]
    provenance: Mapping[str, str]


def certify(parent: Artifact, dataset: Dataset, *, margin: float = 0.001, out: Path, emit: Emit = ignore) -> Artifact:
    """Test every compiled variant on the test split and write a child artifact with certificates and a plan.

    For each variant the fastest engine is primary and gets the quality certificate. Another engine of the same
    numeric form gets a parity certificate; one that builds a form of its own gets a quality certificate of its own.
    The baseline is its own reference: its certificates say that engines agree with it. With several tasks there is a
    certificate for each, and all must pass.

    The plan names the fastest pair whose quality certificate passed; without one there is no plan file, and `serve`
    refuses the artifact.

    Args:
        dataset: the one that the baseline was trained on; its test rows decide.
        margin: the largest loss of AUC that is accepted.

    Raises:
        DataError: ``dataset`` is another one, or its test rows have one class only.
        ArtifactError: a variant was not compiled.
        UsageError: the margin is no difference of AUC.
    """
    check_margin(margin)
    refuse_existing(out)
    rows = _test_rows(parent, dataset)
    draft = Draft("certify", parent=parent)
    draft.remove(PLAN_FILE)
    with step(emit, "score baseline", total=rows.batch.rows, unit="rows"):
        baseline = score(parent, BASELINE, _baseline_engine(parent), rows.batch)
    passed: list[Plan] = []
    for variant in variant_names(parent):
        draft.remove(f"variants/{variant}/certificates/")
        timings = _timings(parent, variant, rows.batch, emit)
        qualities = _certify_variant(parent, draft, variant, list(timings), rows, baseline, margin, emit)
        passed += [
            Plan(variant=variant, engine=quality.engine, p50_ms_512=timings[quality.engine])
            for quality in qualities
            if quality.passed
        ]
    if passed:
        draft.put_json(PLAN_FILE, min(passed, key=lambda plan: plan.p50_ms_512))
    return draft.commit(out)


def score(artifact: Artifact, variant: str, engine: str, batch: Batch) -> np.ndarray:
    """Logits as this engine computes them, float32 ``(rows, tasks)``."""
    runner = open_runner(artifact, variant, engine)
    logits = np.empty((batch.rows, task_count(artifact)), np.float32)
    try:
        for start in range(0, batch.rows, _SCORE_ROWS):
            part = batch.select(slice(start, start + _SCORE_ROWS))
            runner.run(part, logits[start : start + part.rows])
    finally:
        runner.close()
    return logits


def _certify_variant(
    parent: Artifact,
    draft: Draft,
    variant: str,
    engines: Sequence[str],
    rows: _TestRows,
    baseline: np.ndarray,
    margin: float,
    emit: Emit,
) -> list[QualityCertificate]:
    """Put the certificates of one variant; returns those of quality.

    Args:
        engines: fastest first; the first is the primary one.
    """
    primary, *others = engines
    form = read_build(parent, variant, primary).numeric_form
    primary_logits = _scored(parent, variant, primary, rows, emit)
    qualities = [_certify_quality(parent, draft, (variant, primary), rows, baseline, primary_logits, margin, emit)]
    for engine in others:
        logits = _scored(parent, variant, engine, rows, emit)
        build = read_build(parent, variant, engine)
        if build.numeric_form != form:
            pair = (variant, engine)
            qualities.append(_certify_quality(parent, draft, pair, rows, baseline, logits, margin, emit))
            continue
        parity = certify_parity(
            rows.labels,
            primary_logits,
            logits,
            margin=margin,
            variant=variant,
            engine=engine,
            device=build.device,
            instruction_set="native",
            reference_engine=primary,
            tasks=[task.name for task in rows.tasks],
            provenance=_provenance(parent, variant, engine, rows),
        )
        draft.put_json(parity_file(variant, engine), parity)
        verdict = "admitted" if parity.admitted else f"NOT admitted: {parity.reason}"
        emit(Note("parity", f"{variant} on {engine}: {verdict}"))
    return qualities


def _certify_quality(
    parent: Artifact,
    draft: Draft,
    pair: Pair,
    rows: _TestRows,
    baseline: np.ndarray,
    logits: np.ndarray,
    margin: float,
    emit: Emit,
) -> QualityCertificate:
    """One certificate a task; returns the one that decides."""
    variant, engine = pair
    found = []
    for column, task in enumerate(rows.tasks):
        quality = certify_quality(
            rows.labels[:, column],
            baseline[:, column],
            logits[:, column],
            margin=margin,
            clusters=rows.clusters,
            variant=variant,
            engine=engine,
            task=task.name,
            link=task.link,
            provenance=_provenance(parent, variant, engine, rows),
        )
        draft.put_json(quality_file(variant, engine, task.name), quality)
        figures = {"AUC change": quality.delta, "lower bound": quality.ci_low, "margin": margin}
        of_task = f", {task.name}" if len(rows.tasks) > 1 else ""
        emit(Note("certificate", f"{variant} on {engine}{of_task}: {quality.verdict}", figures))
        found.append(quality)
    return deciding(found)


def _scored(parent: Artifact, variant: str, engine: str, rows: _TestRows, emit: Emit) -> np.ndarray:
    with step(emit, f"score {variant} on {engine}", total=rows.batch.rows, unit="rows"):
        return score(parent, variant, engine, rows.batch)


def _provenance(parent: Artifact, variant: str, engine: str, rows: _TestRows) -> dict[str, str]:
    return {**rows.provenance, SERVED: served_digest(parent, variant, engine)}


def _test_rows(artifact: Artifact, dataset: Dataset) -> _TestRows:
    check_same_data(artifact, dataset)
    test = dataset.splits().test
    provenance = {
        "artifact": artifact.digest,
        "baseline_graph": artifact.manifest.files[f"variants/{BASELINE}/graph.onnx"].sha256,
        "split": dataset.schema.split.model_dump_json(),
        **{f"data.{key}": value for key, value in dataset.provenance.items()},
    }
    transforms = Transforms.read(artifact)
    batch = dataset.encode(transforms).select(test)
    check_classes(transforms.schema.tasks, dataset.labels[test], "test")
    # The artifact's tasks, not the data set's: only they have the links that were found when a model was brought in.
    return _TestRows(batch, dataset.labels[test], transforms.schema.tasks, dataset.clusters(test), provenance)


def _baseline_engine(artifact: Artifact) -> str:
    """The engine that speaks for the baseline: the one that runs the trained module itself, where it was built."""
    built = build_names(artifact, BASELINE)
    if not built:
        raise ArtifactError(
            "was not compiled", where=str(artifact.path), hint="Run `rankine compile` first, or `rankine optimize`."
        )
    return next((name for name in built if load_engine(name).capabilities().needs_checkpoint), built[0])


def _timings(artifact: Artifact, variant: str, batch: Batch, emit: Emit) -> dict[str, float]:
    """Median milliseconds per call at 512 rows by engine, fastest first; an oracle is never served, so not timed.

    Raises:
        ArtifactError: the variant was built for no engine that it can be served from.
    """
    some = batch.select(slice(0, _TIMED_ROWS))
    served = [name for name in build_names(artifact, variant) if not load_engine(name).capabilities().oracle]
    if not served:
        raise ArtifactError(
            f"variant '{variant}' was built for no engine to serve from",
            where=str(artifact.path),
            hint="Run `rankine compile` without --engine, or name another one.",
        )
    runners = {name: open_runner(artifact, variant, name) for name in served}
    try:
        with step(emit, f"time engines of {variant}"):
            timings = median_ms({name: (runner, some) for name, runner in runners.items()}, task_count(artifact))
    finally:
        for runner in runners.values():
            runner.close()
    return dict(sorted(timings.items(), key=lambda found: found[1]))

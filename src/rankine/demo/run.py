"""``run_demo``: data, baseline, compression, certificate, engines, servers under load, result and report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from rankine.artifact import refuse_existing
from rankine.catalog import Preparer, build_catalog, catalog_beside
from rankine.catalog.derivers import derivers_of
from rankine.compression.recipe import Distill, Quantize, Recipe
from rankine.data import Dataset, load_dataset
from rankine.demo.baseline import trained_baseline
from rankine.demo.config import SCRATCH, DemoConfig
from rankine.demo.contest import contestants
from rankine.demo.http import measure_servers
from rankine.demo.result import assemble
from rankine.environment import environment
from rankine.events import Emit, Note, ignore
from rankine.models.transforms import Transforms
from rankine.observation.engines import bench_engines
from rankine.observation.report import render_report
from rankine.observation.result import DemoResult
from rankine.observation.sample import sample_batches
from rankine.planning.optimize import optimize

__all__ = ["run_demo"]

PLAIN = Recipe(name="baseline", passes=(Quantize(),))
"""What a user gets from an INT8 tool alone: the whole baseline, quantized."""


def run_demo(config: DemoConfig, out: Path, emit: Emit = ignore) -> DemoResult:
    """Take the whole line on one data set, and write ``result.json`` and ``report.html`` into ``out``.

    Args:
        out: a folder that does not exist yet; holds the artifact and its catalog too.

    Raises:
        ArtifactError: ``out`` exists.
    """
    refuse_existing(out)
    begin = perf_counter()
    dataset = _dataset(config)
    emit(Note("data", dataset.name, {"rows": dataset.rows, "items": len(dataset.item_ids)}))
    baseline = trained_baseline(dataset, config, emit)
    out.mkdir(parents=True)
    artifact = optimize(baseline, _recipes(config), dataset, margin=config.margin, out=out / "artifact", emit=emit)
    preparer = Preparer(Transforms.read(artifact), derivers_of(artifact))  # so that no server has to compute it
    catalog = build_catalog(catalog_beside(artifact.path), preparer, dataset.item_ids, dataset.items)
    bench = bench_engines(
        artifact,
        sample_batches(artifact, catalog, config.engine_rows),
        rows=config.engine_rows,
        repeats=config.engine_calls,
        emit=emit,
    )
    chosen = contestants(artifact, bench)
    http = measure_servers(artifact, catalog_beside(artifact.path), chosen, config, emit)
    result = assemble(artifact, dataset, bench, chosen, http, config).model_copy(
        update={
            "environment": environment(),
            "duration_s": perf_counter() - begin,
            "created": datetime.now(UTC),
        }
    )
    (out / "result.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    render_report(result.model_dump(mode="json"), out / "report.html")
    return result


def _recipes(config: DemoConfig) -> tuple[Recipe, ...]:
    """The recipe itself, plain INT8 of the baseline, and for every student its control, trained as the baseline is."""
    controls = tuple(
        each.model_copy(update={"teacher_weight": 0.0, "drawn_rows": 0.0, "warm_start": False, "fit": config.fit})
        for each in config.recipe.passes
        if isinstance(each, Distill)
    )
    scratch = (Recipe(name=SCRATCH, passes=controls),) if config.control and controls else ()
    return (config.recipe, PLAIN, *scratch)


def _dataset(config: DemoConfig) -> Dataset:
    dataset = load_dataset(config.data, rows=config.rows, seed=config.seed)
    if config.split is None:
        return dataset
    return replace(dataset, schema=dataset.schema.model_copy(update={"split": config.split}))

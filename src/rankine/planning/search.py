"""``optimize`` as a search: many recipes, the best of them compiled, certified at increasing margins, and a ladder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rankine import __version__
from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.certification.certify import certify
from rankine.certification.ledger import split_key
from rankine.certification.margins import Margins, check_margin
from rankine.compilation.compile import compile_artifact
from rankine.compression.compress import RECIPE_FILE, open_context
from rankine.compression.context import Context
from rankine.compression.recipe import Recipe
from rankine.compression.search import (
    Costing,
    Evaluator,
    Found,
    SearchSettings,
    SearchSpace,
    WorkFolder,
    search,
    space_of,
)
from rankine.data.dataset import Dataset
from rankine.events import Emit, Progress, ignore
from rankine.models.network import put_network, size_of
from rankine.models.variant import BASELINE, variant_names
from rankine.planning.baseline_timing import baseline_ms
from rankine.planning.judge import ValidationJudge
from rankine.planning.ladder import LADDER_FILE
from rankine.planning.latency_model import LatencyModel
from rankine.planning.optimize import existing_folder, verification_rows
from rankine.planning.plan_on_validation import plan_on_validation
from rankine.planning.search_plan import SEARCH_FILE, SearchPlan, SearchRecord
from rankine.planning.write_ladder import write_ladder

__all__ = ["optimize_by_search"]

Named = Mapping[str, Found]
"""Variants by name."""


def optimize_by_search(
    parent: Artifact,
    dataset: Dataset,
    plan: SearchPlan,
    latency: LatencyModel,
    *,
    out: Path,
    baseline_512_ms: float | None = None,
    engines: Sequence[str] | None = None,
    emit: Emit = ignore,
) -> Artifact:
    """Search recipes on training and validation rows, then compile and certify what nothing beats, as a ladder.

    Args:
        baseline_512_ms: the baseline's latency at 512 rows, to which the target refers; None measures it.
        engines: names of engines to build for; None means all that are installed.

    Raises:
        ArtifactError: something is at ``out`` already (found before the work begins).
        DataError: ``dataset`` is not the one that the baseline was trained on.
        UsageError: no candidate fits the model, or comes near the target.
        QualityGateFailed: every variant lost too much on validation rows.
    """
    refuse_existing(out)
    check_margin(plan.margin)
    plan = plan.model_copy(update={"settings": _with_largest_loss_at_least(plan.settings, plan.margin)})
    context = open_context(parent, dataset, seed=plan.seed, cost=latency, emit=_only_progress(emit))
    judge = _judge(context, dataset)
    space = plan.space or space_of(context.baseline, seed=plan.seed)
    threads = plan.settings.threads or len(os.sched_getaffinity(0))
    work = WorkFolder(plan.work, parent, _identity(parent, dataset, plan, latency, threads))
    rows = verification_rows(parent, dataset)
    timed = baseline_512_ms if baseline_512_ms is not None else baseline_ms(parent, rows)
    found = search(
        Evaluator(context=context, cost=latency, judge=judge, work=work, threads=threads),
        space,
        Costing(size_of(context.baseline), timed, plan.target),
        plan.settings,
        time_budget_s=plan.time_budget_s,
        emit=emit,
    )
    named = _named(found)
    tests = plan_on_validation(named, judge, plan.margin, emit)
    record = _record(plan, space, latency, timed, named)
    with tempfile.TemporaryDirectory(prefix="rankine-search-", dir=existing_folder(out)) as scratch:
        kept = {test.variant: named[test.variant] for test in tests}
        compressed = _compressed(parent, kept, record, Path(scratch) / "compressed")
        compiled = compile_artifact(
            compressed, engines=engines, verify_batch=rows, out=Path(scratch) / "compiled", emit=emit
        )
        sequence = [(test.variant, Margins.of(test.margin)) for test in tests]
        certified = certify(
            compiled, dataset, margin=plan.margin, sequence=sequence, out=Path(scratch) / "certified", emit=emit
        )
        by_prediction = sorted(kept, key=lambda name: kept[name].cost)
        return write_ladder(certified, rows, plan.margin, out=out, by_prediction=by_prediction, emit=emit)


def _with_largest_loss_at_least(settings: SearchSettings, margin: float) -> SearchSettings:
    """Settings by which nothing is dropped that may pass at this margin."""
    return settings.model_copy(update={"largest_loss": max(settings.largest_loss, margin)})


def _only_progress(emit: Emit) -> Emit:
    """Of what the passes tell while many candidates are evaluated, only how far they are."""
    return lambda event: emit(event) if isinstance(event, Progress) else None


def _judge(context: Context, dataset: Dataset) -> ValidationJudge:
    return ValidationJudge(
        batch=context.validation.batch,
        labels=context.validation.targets,
        tasks=context.baseline.schema.tasks,
        clusters=dataset.clusters(dataset.splits().validation),
        baseline=context.baseline,
    )


def _identity(
    parent: Artifact, dataset: Dataset, plan: SearchPlan, latency: LatencyModel, threads: int
) -> dict[str, str | int]:
    """What every evaluation depends on."""
    return {
        "rankine": __version__,
        "baseline": parent.digest,
        "data": split_key(dataset.provenance, dataset.schema.split.model_dump_json()),
        "latency": latency.digest,
        "seed": plan.seed,
        "threads": threads,
    }


def _named(found: Sequence[Found]) -> Named:
    """Variants by name, numbered from the largest to the cheapest."""
    ordered = sorted(found, key=lambda each: -each.cost)
    return {f"search-{number + 1}-{each.network.numeric}": each for number, each in enumerate(ordered)}


def _record(plan: SearchPlan, space: SearchSpace, latency: LatencyModel, timed: float, named: Named) -> SearchRecord:
    return SearchRecord(
        space=space,
        settings=plan.settings,
        target=plan.target,
        seed=plan.seed,
        time_budget_s=plan.time_budget_s,
        latency_table=latency.digest,
        baseline_512_ms=timed,
        variants={name: {"loss": each.evaluation.loss, **each.shares} for name, each in named.items()},
    )


def _compressed(parent: Artifact, kept: Named, record: SearchRecord, out: Path) -> Artifact:
    """A child with the variants that are to be tested, each with its recipe; those of the parent are left out, so that
    only what the search found is tested again."""
    draft = Draft("search", parent=parent)
    for stale in (RECIPE_FILE, LADDER_FILE):
        draft.remove(stale)
    for name in variant_names(parent):
        if name != BASELINE:
            draft.remove(f"variants/{name}/")
    for name, each in kept.items():
        evaluation = each.evaluation
        put_network(
            draft,
            each.network,
            name=name,
            parent=BASELINE,
            steps=tuple(report.text for report in evaluation.reports),
            validation_auc=evaluation.reports[-1].after.validation_auc,
            details={"passes": [report.model_dump(mode="json") for report in evaluation.reports]},
        )
        recipe = Recipe(name=name, passes=evaluation.passes, seed=record.seed)
        draft.put_json(f"variants/{name}/{RECIPE_FILE}", recipe)
    draft.put_json(SEARCH_FILE, record)
    return draft.commit(out)

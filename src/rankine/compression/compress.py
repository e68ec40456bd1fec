"""``compress``: one recipe applied to an artifact's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.compression.context import Context, CostModel
from rankine.compression.outcome import Measured, Outcome, PassReport, measure
from rankine.compression.recipe import (
    Distill,
    LowRank,
    Pass,
    Prune,
    Quantize,
    QuotientRemainder,
    Recipe,
    ShrinkTables,
)
from rankine.data.dataset import Dataset
from rankine.errors import UsageError
from rankine.events import Emit, Note, ignore
from rankine.models.network import Network, load_network, put_network
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, variant_names
from rankine.training.fit import Examples
from rankine.training.record import check_same_data

__all__ = ["RECIPE_FILE", "apply_passes", "compress", "open_context"]

RECIPE_FILE = "recipe.json"


def compress(
    parent: Artifact,
    recipe: Recipe,
    dataset: Dataset,
    *,
    out: Path,
    cost: CostModel | None = None,
    emit: Emit = ignore,
) -> Artifact:
    """Apply the passes of ``recipe`` to the baseline, and write a child artifact.

    It has the variant ``<recipe>-fp32``, where there are passes before the quantization, and ``<recipe>-int8``, where
    there is one. Training and validation rows are used, the test rows are not.

    Args:
        cost: measured on this machine, for passes that have a budget of time.

    Raises:
        DataError: ``dataset`` is not the one that the baseline was trained on.
        UsageError: a pass needs more than there is: a reference model, a graph that can be trained, a cost model; or
            passes are in an order in which one cannot work.
    """
    refuse_existing(out)
    stages = _stages(recipe)
    _refuse_without_costs(recipe, cost)
    draft = Draft("compress", parent=parent)
    context = open_context(parent, dataset, seed=recipe.seed, cost=cost, emit=emit)
    network, source = context.baseline, BASELINE
    reports: tuple[PassReport, ...] = ()
    for passes, form in stages:
        network, more = apply_passes(network, passes, context)
        reports = (*reports, *more)
        name = _new_name(parent, f"{recipe.name}-{form}")
        put_network(
            draft,
            network,
            name=name,
            parent=source,
            steps=tuple(report.text for report in reports),
            validation_auc=reports[-1].after.validation_auc,
            details={"passes": [report.model_dump(mode="json") for report in reports]},
        )
        draft.put_json(f"variants/{name}/{RECIPE_FILE}", recipe)  # the one beside all variants is the last
        source = name
    draft.put_json(RECIPE_FILE, recipe)
    return draft.commit(out)


def open_context(
    parent: Artifact, dataset: Dataset, *, seed: int, cost: CostModel | None = None, emit: Emit = ignore
) -> Context:
    """The rows of ``dataset`` as ``parent`` encodes them, and its baseline.

    Raises:
        DataError: ``dataset`` is not the one that the baseline was trained on.
    """
    check_same_data(parent, dataset)
    rows, splits = dataset.encode(Transforms.read(parent)), dataset.splits()
    return Context(
        train=Examples(rows.select(splits.train), dataset.labels[splits.train].astype(np.float32)),
        validation=Examples(rows.select(splits.validation), dataset.labels[splits.validation]),
        baseline=load_network(parent, BASELINE),
        seed=seed,
        emit=emit,
        cost=cost,
    )


def apply_passes(network: Network, passes: Sequence[Pass], context: Context) -> tuple[Network, tuple[PassReport, ...]]:
    """The network after ``passes``, and a report of each.

    Raises:
        UsageError: a pass needs more than there is.
    """
    before, reports = measure(network, context), []
    for settings in passes:
        begin = perf_counter()
        outcome = _apply(network, settings, context)
        network = outcome.network
        after = measure(network, context)
        reports.append(
            PassReport(
                type=settings.type,
                settings=settings.model_dump(mode="json"),
                text=outcome.text,
                before=before,
                after=after,
                seconds=round(perf_counter() - begin, 2),
                details=outcome.details,
            )
        )
        context.emit(Note(settings.type, outcome.text, _figures(before, after)))
        before = after
    return network, tuple(reports)


def _apply(network: Network, settings: Pass, context: Context) -> Outcome:
    """One pass; each is imported when it is asked for."""
    if network.numeric != "fp32":
        raise UsageError(
            f"'{settings.type}' comes after 'quantize'",
            where="recipe",
            got="a graph that is INT8 already",
            hint="Put 'quantize' last, once.",
        )
    match settings:
        case Distill():
            from rankine.compression.distill import distill

            return distill(network, settings, context)
        case LowRank():
            from rankine.compression.low_rank import low_rank

            return low_rank(network, settings, context)
        case ShrinkTables():
            from rankine.compression.shrink_tables import shrink_tables

            return shrink_tables(network, settings, context)
        case QuotientRemainder():
            from rankine.compression.quotient_remainder import quotient_remainder

            return quotient_remainder(network, settings, context)
        case Prune():
            from rankine.compression.prune import prune

            return prune(network, settings, context)
        case Quantize():
            from rankine.compression.quantize import quantize

            return quantize(network, settings, context)


def _refuse_without_costs(recipe: Recipe, cost: CostModel | None) -> None:
    """Refuse a pass that needs measured costs before the work of those in front of it."""
    option = recipe.timed_option
    if option is not None and cost is None:
        raise UsageError(
            "needs costs that were measured on this machine",
            where=f"recipe '{recipe.name}': {option}",
            got="no cost model",
            hint="Give 'cost', as the command line does, or leave the setting out of the recipe.",
        )


def _stages(recipe: Recipe) -> list[tuple[tuple[Pass, ...], str]]:
    """The passes up to each variant that is kept, and its numeric form.

    Raises:
        UsageError: the passes are in an order in which one cannot work, found before any of them is done.
    """
    for left, step in pairwise(recipe.passes):
        if step.needs == "reference" != left.needs:
            raise UsageError(
                f"'{step.type}' needs a reference model, and '{left.type}' before it leaves a graph",
                where=f"recipe '{recipe.name}'",
                hint=f"Put '{step.type}' first.",
            )
    wanted = [(position, step) for position, step in enumerate(recipe.passes) if step.type == "quantize"]
    if wanted and (len(wanted) > 1 or wanted[0][0] != len(recipe.passes) - 1):
        raise UsageError(
            "'quantize' must be the last pass, and the only one of its kind",
            where=f"recipe '{recipe.name}'",
            got=", ".join(step.type for step in recipe.passes),
            hint="Put 'quantize' last, once.",
        )
    before = recipe.passes[: len(recipe.passes) - len(wanted)]
    stages: list[tuple[tuple[Pass, ...], str]] = [(before, "fp32")] if before else []
    return [*stages, (recipe.passes[-1:], "int8")] if wanted else stages


def _figures(before: Measured, after: Measured) -> dict[str, float]:
    return {
        "MACs": after.macs_per_row / max(before.macs_per_row, 1),
        "bytes": after.bytes / before.bytes,
        "validation AUC": after.validation_auc,
        "change": after.validation_auc - before.validation_auc,
    }


def _new_name(artifact: Artifact, wanted: str) -> str:
    """``wanted``, or the first of ``wanted-2``, ``wanted-3``, … that no variant has."""
    taken, name, number = variant_names(artifact), wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name

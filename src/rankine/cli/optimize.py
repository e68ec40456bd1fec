"""``rankine optimize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankine.cli.margins import max_drop_option
from rankine.cli.options import (
    DataOptions,
    artifact_argument,
    carry_catalog,
    check_out,
    cost_for,
    data_options,
    json_option,
    out_option,
    recipe_for,
    recipe_option,
)
from rankine.cli.search_options import SearchOptions, search_options
from rankine.errors import QualityGateFailed, UsageError

if TYPE_CHECKING:
    from rankine.artifact import Artifact
    from rankine.certification import Margins
    from rankine.data.dataset import Dataset

EPILOG = """\b
Examples:
  rankine optimize runs/movielens --data ml-1m --margin 0.001 --out runs/small
  rankine optimize runs/movielens --data ml-1m --max-auc-drop 0.001 --target latency=0.05 --out runs/small
"""


@click.command("optimize", epilog=EPILOG)
@artifact_argument
@data_options
@recipe_option
@search_options
@click.option(
    "--engine",
    "engines",
    multiple=True,
    help="Engine to build for, repeatable [default: all installed that build quickly].",
)
@max_drop_option
@out_option
@json_option
def command(
    artifact: Path,
    data: DataOptions,
    recipe: Path | None,
    search: SearchOptions,
    engines: tuple[str, ...],
    margins: Margins,
    out: Path,
    as_json: bool,
) -> None:
    """compress, compile and certify in one go: one recipe, or a search over many.

    One recipe is applied, unless --search or an option of the search is given. A search tries many: sketched first,
    then trained a little, and in full where that is promising. It reads training and validation rows only. What it
    finds is certified at increasing margins: the ladder. It can be interrupted, and goes on when it is started again.

    Exits with 3 when no compressed variant passed, or none at the margin that reaches the targets; the artifact is
    written all the same, with its certificates. The catalog beside ARTIFACT is copied beside OUT.
    """
    from rankine.artifact import Artifact
    from rankine.cli.inspect import require_pass, show
    from rankine.compilation.engines import load_engine
    from rankine.training.record import check_same_data

    check_out(out)
    for name in engines:
        load_engine(name)  # one that is missing is told of before the work, not after it
    if search.given and recipe is not None:
        raise UsageError(
            "a recipe is applied as it is, and a search makes its own",
            where="--recipe",
            hint="Leave out --recipe, or --search, --target, --time-budget, --space and --work. Candidates: --space.",
        )
    if search.given:
        _refuse_other_margins(margins)
    parent, dataset = Artifact.open(artifact), data.open()
    check_same_data(parent, dataset)  # before costs are measured
    if search.given:
        child = _search(parent, dataset, search, engines, margins.auc, out)
    else:
        child = _apply(parent, dataset, recipe, search.latency_table, engines, margins, out)
    carry_catalog(artifact, out)
    show(child, as_json=as_json)
    require_pass(child)
    if search.given:
        _require_rung(child, search.targets, margins.auc)


def _refuse_other_margins(margins: Margins) -> None:
    """The rungs of a search have margins of their own, those of the other metrics follow from them."""
    from rankine.certification import Margins

    if margins != Margins.of(margins.auc):
        raise UsageError(
            "a search takes the margin of AUC alone; at every rung the others follow from it",
            where="--margin",
            hint="Give METRIC=NUMBER to `rankine certify`, or to `optimize` with --recipe.",
        )


def _apply(
    parent: Artifact,
    dataset: Dataset,
    recipe: Path | None,
    latency_table: Path | None,
    engines: tuple[str, ...],
    margins: Margins,
    out: Path,
) -> Artifact:
    from rankine.cli.render import watch
    from rankine.planning.optimize import optimize

    chosen = recipe_for(parent, recipe)
    with watch() as emit:
        cost = cost_for(chosen, latency_table, emit)
        return optimize(
            parent, (chosen,), dataset, margin=margins, out=out, engines=engines or None, cost=cost, emit=emit
        )


def _search(
    parent: Artifact, dataset: Dataset, search: SearchOptions, engines: tuple[str, ...], margin: float, out: Path
) -> Artifact:
    from rankine.cli.render import watch
    from rankine.planning.baseline_timing import remembered_baseline_ms
    from rankine.planning.latency_table import default_file
    from rankine.planning.measure_latency import latency_model
    from rankine.planning.optimize import verification_rows
    from rankine.planning.search import optimize_by_search
    from rankine.planning.search_plan import SearchPlan

    work = search.work or out.with_name(f"{out.name}.search")
    plan = SearchPlan(
        margin=margin,
        work=work,
        target=search.target(),
        space=search.read_space(),
        time_budget_s=search.time_budget_s,
    )
    table = search.latency_table or default_file()
    try:
        with watch() as emit:
            latency = latency_model(search.latency_table, emit)
            return optimize_by_search(
                parent,
                dataset,
                plan,
                latency.on(engines) if engines else latency,
                out=out,
                baseline_512_ms=remembered_baseline_ms(parent, verification_rows(parent, dataset), table),
                engines=engines or None,
                emit=emit,
            )
    except KeyboardInterrupt:
        if work.exists():  # else it was interrupted before the first evaluation
            click.echo(f"The search goes on from {work} when the same command is run again.", err=True)
        raise


def _require_rung(artifact: Artifact, targets: dict[str, float], margin: float) -> None:
    """Raise unless a rung is certified at the margin, and as small as was asked.

    Raises:
        QualityGateFailed: there is none; says what came closest.
    """
    from rankine.planning.ladder import read_ladder, shares

    ladder = read_ladder(artifact)
    rung = None if ladder is None else ladder.at(margin)
    if ladder is None or rung is None:
        raise QualityGateFailed(
            "no variant of the search is certified at the margin that was asked for",
            where=f"--margin {margin:g}",
            got=", ".join(f"{each.variant} at {each.margin:g}" for each in ladder.rungs) if ladder else "no ladder",
            hint="Search longer, or accept a larger --margin; the artifact is written as it is.",
        )
    reached = shares(ladder, rung)
    if all(reached[name] <= share for name, share in targets.items()):
        return
    raise QualityGateFailed(
        "nothing that is certified at this margin is as small as was asked",
        where=f"--target {', '.join(f'{name}={share:g}' for name, share in targets.items())}",
        got=f"{rung.variant} on {rung.engine} came closest: "
        + ", ".join(f"{name}={reached[name]:.3g}" for name in targets),
        hint="Search longer, accept a larger --margin, or ask for less; the artifact is written as it is.",
    )

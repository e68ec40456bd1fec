"""``rankine optimize``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import (
    DataOptions,
    artifact_argument,
    carry_catalog,
    check_out,
    data_options,
    json_option,
    margin_option,
    out_option,
    recipe_for,
    recipe_option,
)

EPILOG = """\b
Example:
  rankine optimize runs/movielens --data ml-1m --margin 0.001 --out runs/small
"""


@click.command("optimize", epilog=EPILOG)
@artifact_argument
@data_options
@recipe_option
@click.option("--engine", "engines", multiple=True, help="Engine to build for, repeatable [default: all installed].")
@margin_option
@out_option
@json_option
def command(
    artifact: Path,
    data: DataOptions,
    recipe: Path | None,
    engines: tuple[str, ...],
    margin: float,
    out: Path,
    as_json: bool,
) -> None:
    """compress, compile and certify in one go.

    Exits with 3 when no compressed variant passed; the artifact is written all the same, with its certificates. The
    catalog beside ARTIFACT is copied beside OUT.
    """
    from rankine.artifact import Artifact
    from rankine.cli.inspect import require_pass, show
    from rankine.cli.render import watch
    from rankine.planning.optimize import optimize

    check_out(out)
    parent = Artifact.open(artifact)
    chosen = recipe_for(parent, recipe)
    with watch() as emit:
        child = optimize(
            parent,
            (chosen,),
            data.open(),
            margin=margin,
            out=out,
            engines=engines or None,
            emit=emit,
        )
    carry_catalog(artifact, out)
    show(child, as_json=as_json)
    require_pass(child)

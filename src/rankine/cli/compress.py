"""``rankine compress``."""

from __future__ import annotations

from pathlib import Path

import click

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

EPILOG = """\b
Example:
  rankine compress runs/movielens --data ml-1m --recipe recipe.yaml --out runs/compressed
\b
recipe.yaml:
  passes:
    - {type: distill, hidden: [128, 64], cross_layers: 1}
    - {type: quantize, method: minmax}
"""


@click.command("compress", epilog=EPILOG)
@artifact_argument
@data_options
@recipe_option
@out_option
@json_option
def command(
    artifact: Path,
    data: DataOptions,
    recipe: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Make smaller and INT8 variants of the baseline; nothing is certified yet."""
    from rankine.artifact import Artifact
    from rankine.cli.inspect import show
    from rankine.cli.render import watch
    from rankine.compression.compress import compress
    from rankine.training.record import check_same_data

    check_out(out)
    parent = Artifact.open(artifact)
    chosen, dataset = recipe_for(parent, recipe), data.open()
    check_same_data(parent, dataset)  # before costs are measured
    with watch() as emit:
        child = compress(parent, chosen, dataset, out=out, cost=cost_for(chosen, None, emit), emit=emit)
    carry_catalog(artifact, out)
    show(child, as_json=as_json)

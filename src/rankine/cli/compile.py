"""``rankine compile``."""

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
    out_option,
)

EPILOG = """\b
Example:
  rankine compile runs/compressed --data ml-1m --engine openvino --out runs/compiled
"""


@click.command("compile", epilog=EPILOG)
@artifact_argument
@data_options
@click.option("--engine", "engines", multiple=True, help="Engine to build for, repeatable [default: all installed].")
@out_option
@json_option
def command(
    artifact: Path,
    data: DataOptions,
    engines: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Build every variant for every engine, and verify each on real rows against the float64 reference."""
    from rankine.artifact import Artifact
    from rankine.cli.inspect import show
    from rankine.cli.render import watch
    from rankine.compilation.compile import compile_artifact
    from rankine.planning.optimize import verification_rows

    check_out(out)
    parent = Artifact.open(artifact)
    rows_to_verify = verification_rows(parent, data.open())
    with watch() as emit:
        child = compile_artifact(parent, engines=engines or None, verify_batch=rows_to_verify, out=out, emit=emit)
    carry_catalog(artifact, out)
    show(child, as_json=as_json)

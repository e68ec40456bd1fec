"""``rankine certify``."""

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
)

EPILOG = """\b
Example:
  rankine certify runs/compiled --data ml-1m --margin 0.001 --out runs/certified
"""


@click.command("certify", epilog=EPILOG)
@artifact_argument
@data_options
@margin_option
@out_option
@json_option
def command(artifact: Path, data: DataOptions, margin: float, out: Path, as_json: bool) -> None:
    """Test on held-out data that compiled variants rank no worse than the baseline.

    Exits with 3 when no compressed variant passed; the artifact is written all the same, with its certificates.
    """
    from rankine.artifact import Artifact
    from rankine.certification.certify import certify
    from rankine.cli.inspect import require_pass, show
    from rankine.cli.render import watch

    check_out(out)
    with watch() as emit:
        child = certify(Artifact.open(artifact), data.open(), margin=margin, out=out, emit=emit)
    carry_catalog(artifact, out)
    show(child, as_json=as_json)
    require_pass(child)

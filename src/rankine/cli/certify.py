"""``rankine certify``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import artifact_argument, carry_catalog, data_options, json_option, open_dataset, out_option

EPILOG = """\b
Example:
  rankine certify runs/compiled --data ml-1m --margin 0.001 --out runs/certified
"""


@click.command("certify", epilog=EPILOG)
@artifact_argument
@data_options
@click.option("--margin", type=float, default=0.001, show_default=True, help="Largest loss of AUC that is accepted.")
@out_option()
@json_option
def command(
    artifact: Path, data: str, schema: Path | None, rows: int | None, seed: int, margin: float, out: Path, as_json: bool
) -> None:
    """Test on held-out data that compiled variants rank no worse than the baseline.

    Exits with 3 when no compressed variant passed; the artifact is written all the same, with its certificates.
    """
    from rankine.artifact import Artifact
    from rankine.certification.certify import certify
    from rankine.cli.inspect import require_pass, show
    from rankine.cli.render import watch

    with watch() as emit:
        child = certify(
            Artifact.open(artifact), open_dataset(data, schema, rows, seed), margin=margin, out=out, emit=emit
        )
    carry_catalog(artifact, out)
    show(child, as_json=as_json)
    require_pass(child)

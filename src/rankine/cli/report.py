"""``rankine report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rankine.cli.options import json_option

EPILOG = """\b
Examples:
  rankine report rankine-demo/result.json --out report.html
  rankine report runs/small --out ladder.html
"""

_GIVE = "Give the result.json of `rankine demo`, or an artifact with a ladder."


@click.command("report", epilog=EPILOG)
@click.argument("result", type=click.Path(path_type=Path), metavar="RESULT|ARTIFACT")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Page to write [default: report.html beside RESULT, or ARTIFACT.ladder.html].",
)
@json_option
def command(result: Path, out: Path | None, as_json: bool) -> None:
    """Render a result.json, or the ladder of an artifact, as one self-contained HTML page that needs no network."""
    page = _ladder(result, out) if result.is_dir() else _result(result, out)
    click.echo(json.dumps({"report": str(page)}) if as_json else str(page))


def _result(result: Path, out: Path | None) -> Path:
    from rankine.errors import ConfigError, DataError
    from rankine.observation.report import render_report

    try:
        values = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("not a readable result file", where=str(result), got=str(error), hint=_GIVE) from None
    try:
        return render_report(values, out or result.parent / "report.html")
    except ConfigError as error:
        raise DataError("is no result of Rankine", where=str(result), got=str(error), hint=_GIVE) from None


def _ladder(path: Path, out: Path | None) -> Path:
    from rankine.artifact import Artifact
    from rankine.errors import UsageError
    from rankine.observation.report import render_ladder
    from rankine.planning.ladder import read_ladder

    artifact = Artifact.open(path)
    ladder = read_ladder(artifact)
    if ladder is None:
        raise UsageError(
            "the artifact has no ladder",
            where=str(path),
            got=f"an artifact of stage '{artifact.manifest.stage}'",
            hint="`rankine optimize` writes one; `rankine bench engines` times what is there.",
        )
    return render_ladder(ladder, artifact.name, out or path.with_name(f"{path.name}.ladder.html"))

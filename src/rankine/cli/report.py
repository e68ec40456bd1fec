"""``rankine report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rankine.cli.options import json_option

EPILOG = """\b
Example:
  rankine report rankine-demo/result.json --out report.html
"""


@click.command("report", epilog=EPILOG)
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Page to write [default: report.html beside RESULT].")
@json_option
def command(result: Path, out: Path | None, as_json: bool) -> None:
    """Render a result.json as one self-contained HTML page that needs no network."""
    from rankine.errors import DataError
    from rankine.observation.report import render_report

    try:
        values = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("not a readable result file", where=str(result), got=str(error)) from None
    page = out or result.parent / "report.html"
    render_report(values, page)
    click.echo(json.dumps({"report": str(page)}) if as_json else str(page))

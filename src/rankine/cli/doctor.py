"""``rankine doctor``."""

from __future__ import annotations

import click

from rankine.cli.options import json_option

EPILOG = """\b
Example:
  rankine doctor --json
"""


@click.command("doctor", epilog=EPILOG)
@json_option
def command(as_json: bool) -> None:
    """Show engines, devices and CPU features, and for what is missing the line that installs it."""
    import json

    from rankine.cli.render import print_table
    from rankine.compilation.doctor import diagnose

    found = diagnose()
    if as_json:
        click.echo(json.dumps([record.model_dump(mode="json") for record in found], indent=2))
        return
    print_table(
        ("what", "state", "version or reason", "next step"),
        [(record.subject, "ok" if record.ok else "missing", record.detail, record.hint or "") for record in found],
    )

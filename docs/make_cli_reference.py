"""Write ``docs/reference/cli.md`` from the command line's own help.

$ python docs/make_cli_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rankine.cli import LazyGroup, _rankine

PAGE = Path(__file__).parent / "reference" / "cli.md"
_WIDTH = 100
_INTRODUCTION = """\
# Command line

Made from `--help` by `docs/make_cli_reference.py`; edit the commands, not this page.

Results go to standard output, progress and logs to standard error. `--json` prints the result as JSON; an error is then
printed as `{"error": {"code", "message", "where", "got", "allowed", "hint"}}`. A verb never overwrites an artifact: its
`--out` must not exist.

| exit status | meaning |
| --- | --- |
| 0 | ok |
| 1 | internal error |
| 2 | wrong usage, configuration or data; a missing or corrupt artifact |
| 3 | quality gate: no certificate, or not passed |
| 4 | the SLO was not met, or more requests missed than `--fail-on-miss` allows |
| 5 | an engine is missing |
"""


def render() -> str:
    """The page."""
    commands = _commands(_rankine, ("rankine",), None)
    sections = [f"## {' '.join(path)}\n\n```text\n{text}\n```\n" for path, text in commands]
    return "\n".join([_INTRODUCTION, *sections])


def _commands(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command with its help, parents first."""
    settings = {"terminal_width": _WIDTH, "max_content_width": _WIDTH, "help_option_names": ["-h", "--help"]}
    context = click.Context(command, info_name=path[-1], parent=parent, **settings)
    yield path, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, LazyGroup):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _commands(child, (*path, name), context)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")

"""The command line: a table of verbs, imported when they are called; the only place that prints.

``rankine --help`` imports neither NumPy nor PyTorch.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rankine.errors import RankineError

__all__ = ["main"]

_GROUPS: Mapping[str, Mapping[str, str]] = {
    "": {
        "demo": "Everything in one go: train, compress, certify, serve, load, report.",
        "train": "Train the baseline on a data set until validation stops improving.",
        "init": "Draft a schema for a model from elsewhere, from the model and a Parquet file.",
        "load": "Bring a model that was trained elsewhere: nn.Module, .pt2 or ONNX.",
        "inspect": "Show what an artifact or an ONNX file holds: features, tables, variants, risky operators.",
        "compress": "Make smaller and INT8 variants by a recipe.",
        "compile": "Build every variant for every engine, and verify each against the reference.",
        "certify": "Test on held-out data that variants rank no worse than the baseline.",
        "optimize": "compress, compile and certify in one go.",
        "catalog": "Keep the items: `catalog build | upsert | delete | get | compact`.",
        "serve": "Serve an artifact over HTTP.",
        "export": "Write what another server runs: `export triton-server ARTIFACT DIR`.",
        "simulate": "Play traffic against the scheduler in simulated time.",
        "bench": "Measure: `bench load URL`, `bench engines ARTIFACT`.",
        "report": "Render a result.json, or the ladder of an artifact, as one self-contained HTML page.",
        "conformance": "Hold engines to what every engine must do, and write the result.",
        "doctor": "Show engines, devices and CPU features, and what is missing.",
    },
    "export": {
        "triton-server": "A model repository for Triton Inference Server, which runs Rankine's engines.",
    },
    "bench": {
        "load": "Put a server under load: latency, goodput, highest sustainable rate.",
        "engines": "Time every variant on every engine, side by side.",
    },
    "catalog": {
        "build": "Store of every item what the artifact's variants read of it.",
        "upsert": "Add or replace items, all in one generation.",
        "delete": "Delete items, all in one generation.",
        "get": "Show items, or what the catalog holds.",
        "compact": "Fold the log into a new snapshot.",
    },
}

_RIGHTS = "Name another place, or see to the rights there."
_KIND = "Name another place: a file lies where a folder is needed, or the other way round."
_ROOM = "Make room there, or name another place."
_MENDABLE: Mapping[int, str] = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EEXIST: _KIND,
    errno.EISDIR: _KIND,
    errno.ENOTDIR: _KIND,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
}
"""What the system refuses and only the user can mend, with what to do. A file that is missing is not among it: where a
name was given wrongly, the stage that reads it says so."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run; listing them imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_GROUPS[self._path()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS[self._path()]:
            return None
        if cmd_name in _GROUPS:
            return LazyGroup(cmd_name, help=_GROUPS[self._path()][cmd_name], no_args_is_help=True)
        prefix = f"{self._path()}_" if self._path() else ""
        command: click.Command = import_module(f"rankine.cli.{prefix}{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from rankine.errors import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in _GROUPS[self._path()]:
            hint = did_you_mean(args[0], _GROUPS[self._path()])
            raise click.UsageError(f"no such command '{args[0]}'. {hint or ''}".rstrip(), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_GROUPS[self._path()].items()))

    def _path(self) -> str:
        return "" if self.name in (None, "rankine") else str(self.name)


@click.command(
    cls=LazyGroup, name="rankine", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(package_name="rankine")
def _rankine() -> None:
    """Turn a trained ranking model into a certified, low-latency ranking service.

    \b
    Start with:   rankine demo
    Your data:    rankine train --data ratings.parquet --schema schema.yaml --out model
                  rankine optimize model --data ratings.parquet --schema schema.yaml --out small
                  rankine serve small
    Your model:   rankine init my_model:build --data ratings.parquet --out schema.yaml
                  rankine load my_model:build --data ratings.parquet --schema schema.yaml --out model

    Exit status: 0 ok, 1 internal error, 2 usage, 3 quality gate failed, 4 SLO not met, 5 engine missing.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with the status of the error's class."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status: Any = _rankine.main(args=arguments, prog_name="rankine", standalone_mode=False)
    except click.ClickException as error:
        if "--json" in arguments:
            _print_json(_usage(error))
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        _show(known, as_json="--json" in arguments)
        sys.exit(known.exit_status)
    sys.exit(status if isinstance(status, int) else 0)


def _known(error: Exception) -> RankineError | None:
    """What the user can mend; None where it is a fault of the program, which shows where it was."""
    from rankine.errors import RankineError, UsageError

    if isinstance(error, RankineError):
        return error
    if not isinstance(error, OSError):
        return None
    hint = _MENDABLE.get(error.errno or 0)
    where = "a file" if error.filename is None else str(error.filename)
    if hint is None or (error.filename is None and hint != _ROOM):  # only a full disk is told of without a name
        return None
    return UsageError("cannot be read or written", where=where, got=error.strerror, hint=hint)


def _usage(error: click.ClickException) -> RankineError:
    """What Click refuses, as an error of ours."""
    from rankine.errors import UsageError

    context = error.ctx if isinstance(error, click.UsageError) else None
    path = None if context is None else context.command_path
    return UsageError(error.format_message(), where=path, hint=path and f"See `{path} --help`.")


def _print_json(error: RankineError) -> None:
    import json

    click.echo(json.dumps({"error": error.as_dict()}, indent=2))


def _show(error: RankineError, *, as_json: bool) -> None:
    if as_json:
        _print_json(error)
    click.echo(f"{click.style('error', fg='red', bold=True)} ({error.code}): {error}", err=True)


if __name__ == "__main__":
    main()

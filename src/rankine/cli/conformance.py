"""``rankine conformance``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankine.cli.options import json_option, result_option

if TYPE_CHECKING:
    from rankine.compilation.conformance.result import ConformanceResult

EPILOG = """\b
Examples:
  rankine conformance --out conformance.json
  rankine conformance --out conformance.json --continue
  rankine conformance --engine my_engine --model dcn_v2 --small
"""


@click.command("conformance", epilog=EPILOG)
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this engine, repeatable.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Only this device of them, repeatable.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this reference model, repeatable.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="Only this check, repeatable.")
@click.option("--small", is_flag=True, help="Small embeddings and layers, for a quick look.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Longest time of one check.",
)
@click.option(
    "--continue",
    "go_on",
    is_flag=True,
    help="Go on with the run whose result is in --out, and add to it: what passed there is not run again.",
)
@result_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    models: tuple[str, ...],
    checks: tuple[str, ...],
    small: bool,
    timeout_s: float,
    go_on: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Hold every engine, on every device it names, to what all engines must do: numbers, refusals, threads, no leaks.

    Over every reference model in FP32 and INT8, each case in a process of its own, so that an engine that crashes or
    hangs is a failed check and the rest goes on. An engine that is not installed is told with the line that installs
    it. Exits with 1 when a check failed, or when an engine that was named is missing.
    """
    from rankine.cli.render import print_json, print_table, watch
    from rankine.compilation.conformance.run import run_conformance

    if go_on and out is None:
        raise click.UsageError("--continue needs the --out FILE that it goes on with")
    known = _read(out) if go_on and out is not None else None
    kept = 0 if known is None else len(known.cases)

    def keep(result: ConformanceResult) -> None:
        nonlocal kept
        if out is not None:
            out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
            kept = len(result.cases)

    try:
        with watch() as emit:
            result = run_conformance(
                engines=engines or None,
                devices=devices or None,
                models=models or None,
                checks=checks or None,
                small=small,
                timeout_s=timeout_s,
                known=known,
                keep=keep,
                emit=emit,
            )
    except KeyboardInterrupt:
        told = f"{kept} cases are kept in {out}: the same command with --continue goes on"
        click.echo(told if kept else "nothing is kept: with --out FILE, every case is when it is done", err=True)
        raise
    keep(result)
    if as_json:
        print_json(result)
    else:
        lines = result.table_rows()
        print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    if not result.passed or any(one.engine in engines and one.capabilities is None for one in result.engines):
        context.exit(1)


def _read(path: Path) -> ConformanceResult:
    """The result to go on with.

    Raises:
        UsageError: there is none.
    """
    from rankine.artifact import read_record
    from rankine.compilation.conformance.result import ConformanceResult
    from rankine.errors import ArtifactError, UsageError

    if not path.exists():
        raise UsageError(
            "there is no result to go on with", where=str(path), hint="Leave --continue out: the run makes it."
        )
    try:
        return read_record(path, ConformanceResult)
    except ArtifactError as error:
        raise UsageError(
            "is no result of `rankine conformance`", where=str(path), got=error.got or error.message,
            hint="Give the --out of an earlier run, or leave --continue out and give another --out.",
        ) from None  # fmt: skip

"""``rankine conformance``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import json_option, result_option

EPILOG = """\b
Examples:
  rankine conformance --out conformance.json
  rankine conformance --out conformance.json --continue
  rankine conformance --engine my_engine --model dcn_v2 --small
"""


@click.command("conformance", epilog=EPILOG)
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="Only this engine, repeatable.")
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
    help="Go on with the run whose result is in --out: what passed there, in the same environment, is not run again.",
)
@result_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    engines: tuple[str, ...],
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
    from rankine.artifact import read_record
    from rankine.cli.render import print_json, print_table, watch
    from rankine.compilation.conformance.result import ConformanceResult
    from rankine.compilation.conformance.run import run_conformance

    if go_on and out is None:
        raise click.UsageError("--continue needs the --out FILE that it goes on with")
    known = read_record(out, ConformanceResult) if go_on and out is not None and out.exists() else None

    def keep(result: ConformanceResult) -> None:
        if out is not None:
            out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")

    with watch() as emit:
        result = run_conformance(
            engines=engines or None,
            models=models or None,
            checks=checks or None,
            small=small,
            timeout_s=timeout_s,
            known=known,
            keep=keep,
            emit=emit,
        )
    keep(result)
    if as_json:
        print_json(result)
    else:
        lines = result.table_rows()
        print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    if not result.passed or any(one.engine in engines and one.capabilities is None for one in result.engines):
        context.exit(1)

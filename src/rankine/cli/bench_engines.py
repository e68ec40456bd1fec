"""``rankine bench engines``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import artifact_argument, json_option, result_option

EPILOG = """\b
Example:
  rankine bench engines runs/small --rows 1,64,512
"""


@click.command("engines", epilog=EPILOG)
@artifact_argument
@click.option("--rows", default="1,64,512", show_default=True, help="Rows of a call, separated by commas.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one call.")
@click.option(
    "--repeats",
    type=click.IntRange(min=3),
    default=90,
    show_default=True,
    help="Timed calls of each engine at each number of rows.",
)
@result_option
@json_option
def command(artifact: Path, rows: str, threads: int, repeats: int, out: Path | None, as_json: bool) -> None:
    """Time every variant on every engine it was built for, interleaved, and keep it as this machine's profile.

    What was built in parts is timed twice in the same rounds: in parts, as it is served, and as the whole graph.
    """
    from rankine.artifact import Artifact
    from rankine.catalog import Catalog, catalog_beside
    from rankine.cli.render import print_json, print_lines, print_table, watch
    from rankine.errors import UsageError
    from rankine.models.transforms import Transforms
    from rankine.observation.engines import bench_engines
    from rankine.observation.sample import sample_batches

    try:
        sizes = tuple(int(part) for part in rows.split(","))
    except ValueError:
        raise UsageError("must be numbers separated by commas", where="--rows", got=rows) from None
    if min(sizes) < 1:
        raise UsageError("must be at least 1", where="--rows", got=rows)
    opened = Artifact.open(artifact)
    beside = catalog_beside(artifact)
    needed = bool(Transforms.read(opened).schema.catalog_features) or beside.exists()
    batches = sample_batches(opened, Catalog.open(beside) if needed else None, sizes)
    with watch() as emit:
        found = bench_engines(opened, batches, rows=sizes, threads=threads, repeats=repeats, emit=emit)
    if out:
        out.write_text(found.model_dump_json(indent=2), encoding="utf-8")
    if as_json:
        print_json(found)
        return
    lines = found.table_rows()
    print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    caution = " NOISY: run it again" if found.noisy else ""
    print_lines([("control", f"{found.control_p50_ms:.3f} ms, quartiles {found.control_spread:.1%} apart{caution}")])

"""``rankine bench engines``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankine.cli.options import artifact_argument, json_option, result_option

if TYPE_CHECKING:
    from rankine.artifact import Artifact

EPILOG = """\b
Examples:
  rankine bench engines runs/small
  rankine bench engines runs/small --rows 1,64,512 --threads 1 --engine onnxruntime --engine native
"""

_MOST_ROWS, _MOST_THREADS = 1 << 20, 1024


@click.command("engines", epilog=EPILOG)
@artifact_argument
@click.option("--rows", default="1,16,64,128,512,1024", show_default=True, help="Rows of a call, separated by commas.")
@click.option(
    "--threads", help="Threads of one call, separated by commas [default: 1, and all cores that may be used]."
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Only this engine, repeatable [default: all that are available here or were built for].",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=3),
    default=90,
    show_default=True,
    help="Timed calls of each engine at each number of rows.",
)
@result_option
@json_option
def command(
    artifact: Path,
    rows: str,
    threads: str | None,
    engines: tuple[str, ...],
    repeats: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Time every variant on every engine, interleaved, and keep it as this machine's profile.

    What was built in parts is timed twice in the same rounds: in parts, as it is served, and as the whole graph. An
    engine that fails, or that a variant was not built for, is a row with its reason. What runs on a chip's emulator is
    not timed.
    """
    from rankine.artifact import Artifact
    from rankine.catalog import Catalog, catalog_beside
    from rankine.cli.render import print_json, print_lines, print_table, watch
    from rankine.environment import environment
    from rankine.models.transforms import Transforms
    from rankine.observation.engines import bench_engines
    from rankine.observation.sample import sample_batches

    sizes = _numbers("--rows", rows, _MOST_ROWS)
    counts = _numbers("--threads", threads, _MOST_THREADS) if threads is not None else (1, int(environment()["cores"]))
    opened = Artifact.open(artifact)
    beside = catalog_beside(artifact)
    needed = bool(Transforms.read(opened).schema.catalog_features) or beside.exists()
    batches = sample_batches(opened, Catalog.open(beside) if needed else None, sizes)
    with watch() as emit:
        found = bench_engines(
            opened,
            batches,
            pairs=_pairs(opened, engines),
            rows=sizes,
            threads=counts,
            repeats=repeats,
            emit=emit,
        )
    if out:
        out.write_text(found.model_dump_json(indent=2), encoding="utf-8")
    if as_json:
        print_json(found)
        return
    lines = found.table_rows()
    print_table(tuple(lines[0]), [tuple(line.values()) for line in lines])
    caution = " NOISY: run it again" if found.noisy else ""
    print_lines([("control", f"{found.control_p50_ms:.3f} ms, quartiles {found.control_spread:.1%} apart{caution}")])


def _numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    from rankine.errors import UsageError

    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError("must be numbers separated by commas", where=option, got=text) from None
    if min(numbers) < 1 or max(numbers) > most:
        raise UsageError("is out of bounds", where=option, got=text, allowed=f"1 to {most:,}")
    return numbers


def _pairs(artifact: Artifact, engines: tuple[str, ...]) -> list[tuple[str, str]] | None:
    """Every variant with every engine that it was built for or that could run it here; None where nothing was built."""
    from rankine.compilation.build_variant import can_build
    from rankine.compilation.compile import build_names
    from rankine.compilation.engine import Capabilities
    from rankine.compilation.engines import check_known, installed
    from rankine.models.variant import load_model, variant_names

    built = {variant: build_names(artifact, variant) for variant in variant_names(artifact)}
    if not any(built.values()):
        return None
    check_known(*(name for name in engines if not any(name in names for names in built.values())))
    here = [(name, found) for name, found in installed() if isinstance(found, Capabilities) and not found.oracle]
    pairs = []
    for variant, names in built.items():
        model = load_model(artifact, variant)
        able = [name for name, found in here if can_build(found, model)]
        pairs += [(variant, name) for name in dict.fromkeys([*names, *able]) if not engines or name in engines]
    return pairs

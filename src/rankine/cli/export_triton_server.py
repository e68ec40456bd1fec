"""``rankine export triton-server``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankine.cli.option_errors import naming_options
from rankine.cli.options import artifact_argument, json_option

if TYPE_CHECKING:
    from rankine.serving.triton.repository import Form

EPILOG = """\b
Examples:
  rankine export triton-server runs/small models
  tritonserver --model-repository models
"""
_PROFILED = "cpu"
_FORMS = ("flat", "rank", "batch")


@click.command("triton-server", epilog=EPILOG)
@artifact_argument
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--catalog", type=click.Path(path_type=Path), help="Catalog [default: ARTIFACT.catalog].")
@click.option("--variant", help="Variant to serve [default: the certified plan's].")
@click.option("--engine", help="Engine to run it on [default: the variant's certified one].")
@click.option("--device", help="Device of the engine [default: the one that its build was verified on].")
@click.option("--split/--no-split", default=True, show_default=True, help="Run in parts what was built in parts.")
@click.option("--allow-uncertified", is_flag=True, help="Export without a passed certificate.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of one engine call."
)
@click.option("--instances", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes of each model.")
@click.option(
    "--form",
    "forms",
    type=click.Choice(_FORMS),
    multiple=True,
    help="Forms to write, each a model: NAME takes rows, NAME.rank a user and candidates, NAME.batch batches of other "
    "servers [default: all].",
)
@click.option("--copy", is_flag=True, help="Copy artifact and catalog into DIR [default: DIR refers to them].")
@click.option("--max-candidates", type=click.IntRange(min=1), default=10_000, show_default=True)
@json_option
def command(
    artifact: Path, folder: Path, instances: int, forms: tuple[Form, ...], copy: bool, as_json: bool, **options: Any
) -> None:
    """Write a model repository for Triton Inference Server to DIR, which must not exist.

    Triton's python backend runs the artifact's engine in it. Limits of batches follow from the artifact's profile of
    this machine, which `rankine bench engines` measures. Inputs and outputs are those of `rankine serve`, under the
    same names.
    """
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.config import parse
    from rankine.serving.config import ServeConfig
    from rankine.serving.triton.batching import batch_sizes
    from rankine.serving.triton.repository import FORMS, write_repository

    with naming_options(ServeConfig):
        config = parse(ServeConfig, {"artifact": artifact, **options}, source="export")
    sizes = batch_sizes(_profile(config))
    with watch() as emit:
        found = write_repository(config, folder, sizes, forms=forms or FORMS, instances=instances, copy=copy, emit=emit)
    if as_json:
        print_json(found)
        return
    measured = ", ".join(f"{rows} rows {ms:.2f} ms" for rows, ms in found.profile.items())
    batches = f"up to {found.max_batch_rows} rows, {found.max_batch_ms:g} ms"
    rows = [
        ("repository", f"{found.repository}: {', '.join(found.models)}"),
        ("runs", f"{found.variant} on {found.engine}{'' if found.certified else ', NOT certified'}"),
        ("batches", f"{batches} (profile: {measured or 'none; run `rankine bench engines` for one'})"),
        ("artifact", "copied" if found.copied else f"stays at {artifact}"),
        ("start", f"tritonserver --model-repository {found.repository}"),
    ]
    print_lines(rows)


def _profile(config: Any) -> dict[int, float]:
    """Milliseconds by rows of what is exported, with as many threads, from the artifact's profile of this machine.

    Empty where nothing of the kind was timed; profiles are of CPUs.
    """
    from rankine.artifact import Artifact, read_record
    from rankine.observation.engines import EngineBench, profile_path
    from rankine.serving.gate import choose

    artifact = Artifact.open(config.artifact)
    path = profile_path(artifact)
    if config.device not in (None, _PROFILED) or not path.is_file():
        return {}
    choice = choose(
        artifact,
        variant=config.variant,
        engine=config.engine,
        device=config.device,
        split=config.split,
        allow_uncertified=config.allow_uncertified,
    )
    timings = read_record(path, EngineBench).served
    wanted = (choice.variant, choice.engine, config.threads)
    mine = [one for one in timings if (one.variant, one.engine, one.threads) == wanted]
    return {one.rows: one.p50_ms for one in mine if one.p50_ms is not None}

"""``rankine train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rankine.cli.options import DataOptions, check_out, data_options, json_option, out_option

EPILOG = """\b
Examples:
  rankine train --data ml-1m --out runs/movielens
  rankine train --data clicks.parquet --schema schema.yaml --model model.yaml --out runs/clicks
  rankine train --data small.parquet --schema schema.yaml --batch-rows 256 --patience 5 --out runs/small
"""


@click.command("train", epilog=EPILOG)
@data_options
@out_option
@click.option("--name", help="Name under which the model will be served [default: the data set's].")
@click.option("--model", type=click.Path(path_type=Path), help="Model (YAML): architecture and sizes.")
@click.option("--max-epochs", type=click.IntRange(min=1), default=40, show_default=True, help="Upper bound.")
@click.option("--patience", type=click.IntRange(min=1), default=2, show_default=True, help="Epochs without gain.")
@click.option("--batch-rows", type=click.IntRange(min=1), help="Rows a step [default: 4096]; fewer for small data.")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), help="Of Adam [default: 0.002].")
@click.option(
    "--train-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights and order of rows."
)
@json_option
def command(
    data: DataOptions,
    out: Path,
    name: str | None,
    model: Path | None,
    max_epochs: int,
    patience: int,
    batch_rows: int | None,
    learning_rate: float | None,
    train_seed: int,
    as_json: bool,
) -> None:
    """Train the baseline until validation stops improving, and write it as an artifact.

    The catalog (item ids and static item features) is written beside it, as OUT.catalog.
    """
    from rankine.catalog import catalog_beside, write_catalog
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.config import parse
    from rankine.training.config import FitConfig
    from rankine.training.record import TRAINING_FILE, TrainingRecord
    from rankine.training.train import train

    check_out(out)
    steps = {"batch_rows": batch_rows, "learning_rate": learning_rate}
    given = {name: value for name, value in steps.items() if value is not None}
    settings = {"max_epochs": max_epochs, "patience": patience, "seed": train_seed, **given}
    config = parse(FitConfig, settings, source="train")
    dataset = data.open()
    with watch() as emit:
        artifact = train(dataset, _model_config(model), config, out=out, name=name or dataset.name, emit=emit)
        write_catalog(catalog_beside(out), dataset.schema, dataset.item_ids, dataset.items)
    record = artifact.read_json(TRAINING_FILE, TrainingRecord)
    if as_json:
        print_json(record)
        return
    found = record.result
    print_lines(
        [
            ("artifact", str(out)),
            ("catalog", f"{catalog_beside(out)} ({len(dataset.item_ids):,} items)"),
            ("rows", ", ".join(f"{part} {count:,}" for part, count in record.rows.items())),
            ("validation AUC", f"{found.validation_auc:.5f} (epoch {found.best_epoch} of {len(found.history)})"),
            ("converged", "yes" if found.converged else "NO: max_epochs ended the training"),
            ("next", f"rankine optimize {out} {data} --out {out}-small"),
        ]
    )


def _model_config(path: Path | None) -> dict[str, Any]:
    """The model's settings as the YAML file has them; the model itself checks its keys."""
    from rankine.config import read_mapping

    return {"architecture": "dcn_v2"} if path is None else read_mapping(path)

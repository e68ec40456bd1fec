"""``rankine train``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import data_options, json_option, open_dataset, out_option

EPILOG = """\b
Examples:
  rankine train --data ml-1m --out runs/movielens
  rankine train --data clicks.parquet --schema schema.yaml --model model.yaml --out runs/clicks
"""


@click.command("train", epilog=EPILOG)
@data_options
@out_option()
@click.option("--name", help="Name under which the model will be served [default: the data set's].")
@click.option("--model", type=click.Path(path_type=Path), help="Model (YAML): architecture and sizes.")
@click.option("--max-epochs", type=click.IntRange(min=1), default=40, show_default=True, help="Upper bound.")
@click.option("--patience", type=click.IntRange(min=1), default=2, show_default=True, help="Epochs without gain.")
@click.option("--train-seed", type=int, default=0, show_default=True, help="Seed of weights and order of rows.")
@json_option
def command(
    data: str,
    schema: Path | None,
    rows: int | None,
    seed: int,
    out: Path,
    name: str | None,
    model: Path | None,
    max_epochs: int,
    patience: int,
    train_seed: int,
    as_json: bool,
) -> None:
    """Train the baseline until validation stops improving, and write it as an artifact.

    The catalog (item ids and static item features) is written beside it, as OUT.catalog.
    """
    from rankine.catalog import catalog_beside, write_catalog
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.errors import ArtifactError
    from rankine.training.fit import FitConfig
    from rankine.training.train import TRAINING_FILE, TrainingRecord, train

    for path in (out, catalog_beside(out)):
        if path.exists():
            raise ArtifactError("something is already there", where=str(path), hint="Give another --out, or remove it.")
    dataset = open_dataset(data, schema, rows, seed)
    config = FitConfig(max_epochs=max_epochs, patience=patience, seed=train_seed)
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
            ("next", f"rankine optimize {out} {_data_options(data, schema, rows, seed)} --out {out}-small"),
        ]
    )


def _data_options(data: str, schema: Path | None, rows: int | None, seed: int) -> str:
    """The options that name the same rows again."""
    options = [f"--data {data}"]
    options += [f"--schema {schema}"] if schema else []
    options += [f"--rows {rows}"] if rows else []
    options += [f"--seed {seed}"] if seed else []
    return " ".join(options)


def _model_config(path: Path | None) -> dict[str, object]:
    """The model's settings as the YAML file has them; the model itself checks its keys."""
    import yaml

    from rankine.errors import ConfigError

    if path is None:
        return {"architecture": "dcn_v2"}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("not readable as YAML", where=str(path), got=" ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping", where=str(path), got=type(values).__name__)
    return values

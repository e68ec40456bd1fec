"""``rankine load``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import DataOptions, check_out, data_options, json_option, out_option

EPILOG = """\b
Examples:
  rankine init my_model:build --data clicks.parquet --out schema.yaml
  rankine load my_model:build --schema schema.yaml --data clicks.parquet --out runs/clicks
  rankine load model.pt2 --schema schema.yaml --data clicks.parquet --out runs/clicks
  rankine load model.onnx --schema schema.yaml --data clicks.parquet --out runs/clicks
"""


@click.command("load", epilog=EPILOG)
@click.argument("model")
@data_options
@out_option
@click.option("--name", help="Name under which the model will be served [default: the data set's].")
@json_option
def command(model: str, data: DataOptions, out: Path, name: str | None, as_json: bool) -> None:
    """Bring a model that was trained elsewhere, and write it as an artifact.

    MODEL is module:function (called without arguments, from the current folder, it returns the trained nn.Module), a
    .pt2 file of torch.export.save, or an .onnx file. The schema names its features; what it takes is under 'call'.

    The model's tables are taken out of it, and what is left is proved equal to it on random and on real rows. The
    catalog (item ids and static item features) is written beside the artifact, as OUT.catalog.
    """
    from rankine.catalog import catalog_beside, write_catalog
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.models.variant import BASELINE, read_variant
    from rankine.training.load import load
    from rankine.training.record import TRAINING_FILE, BaselineRecord

    check_out(out)
    dataset = data.open()
    with watch() as emit:
        artifact = load(model, dataset.schema, dataset, out=out, name=name or dataset.name, emit=emit)
        write_catalog(catalog_beside(out), dataset.schema, dataset.item_ids, dataset.items)
    record = artifact.read_json(TRAINING_FILE, BaselineRecord)
    if as_json:
        print_json(record)
        return
    variant = read_variant(artifact, BASELINE)
    lines = [
        ("artifact", str(out)),
        ("catalog", f"{catalog_beside(out)} ({len(dataset.item_ids):,} items)"),
        ("model", f"{variant.macs_per_row:,} MACs a row, {len(variant.tables)} tables"),
    ]
    if record.proof is not None:
        rows = ", ".join(f"{count:,} {kind}" for kind, count in record.proof.rows.items())
        lines.append(("equal to the original", f"logits within {record.proof.max_error:.1e} on {rows} rows"))
    if variant.validation_auc is not None:
        lines.append(("validation AUC", f"{variant.validation_auc:.5f}"))
    print_lines([*lines, ("next", f"rankine optimize {out} {data} --out {out}-small")])

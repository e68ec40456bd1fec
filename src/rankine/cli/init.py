"""``rankine init``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import in_a_folder

EPILOG = """\b
Examples:
  rankine init my_model:build --data clicks.parquet --out schema.yaml
  rankine init model.onnx --data clicks.parquet
"""


@click.command("init", epilog=EPILOG)
@click.argument("model")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Parquet file of the model's rows.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=in_a_folder,
    help="File to write [default: print it].",
)
def command(model: str, data: Path, out: Path | None) -> None:
    """Draft a schema for a model from elsewhere, from the model and a Parquet file.

    MODEL is module:function, a .pt2 or an .onnx file. Kinds are guessed from the columns' types, encodings from the
    sizes of the model's tables, sides from which columns are constant for a user or an item. Every guess has a comment
    that says why; check them, then run `rankine load`.
    """
    from rankine.cli.render import print_lines
    from rankine.errors import UsageError
    from rankine.models.intake.signature import read_signature
    from rankine.training.draft import draft_schema
    from rankine.training.draft_trial import settle_by_running
    from rankine.training.draft_yaml import render_draft
    from rankine.training.facts import read_table

    if out is not None and out.exists():
        raise UsageError("something is already there", where=str(out), hint="Give another --out, or remove it first.")
    table, signature = read_table(data), read_signature(model)
    draft = draft_schema(signature, table)
    settle_by_running(draft, signature)
    text = render_draft(draft, model=model, data=str(data))
    if out is None:
        click.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    features = f"{len(draft.features)}: {', '.join(feature.name for feature in draft.features)}"
    print_lines(
        [
            ("schema", str(out)),
            ("features", features),
            *[("check", note) for note in draft.notes],
            ("next", f"rankine load {model} --schema {out} --data {data} --out model"),
        ]
    )

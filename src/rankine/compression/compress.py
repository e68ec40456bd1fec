"""``compress``: one recipe applied to an artifact; every pass adds a variant."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.compression.recipe import Distill, Quantize, Recipe
from rankine.config import Frozen
from rankine.data.dataset import Dataset, Splits
from rankine.errors import UsageError
from rankine.events import Emit, Note, ignore, step
from rankine.models.checkpoint import load_checkpoint
from rankine.models.columns import Batch
from rankine.models.lookup_reference import reference_lookup
from rankine.models.package import put_trained
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, Variant, load_model, read_variant, variant_names, write_tables
from rankine.training.fit import Examples
from rankine.training.record import check_same_data

__all__ = ["RECIPE_FILE", "compress"]

RECIPE_FILE = "recipe.json"


def compress(parent: Artifact, recipe: Recipe, dataset: Dataset, *, out: Path, emit: Emit = ignore) -> Artifact:
    """Apply the passes of ``recipe``, each to the variant before it, and write a child artifact.

    Training and validation rows are used, the test rows are not.

    Raises:
        DataError: ``dataset`` is not the one that the baseline was trained on.
        UsageError: a pass needs a trainable model and there is only a graph.
    """
    refuse_existing(out)
    check_same_data(parent, dataset)
    transforms = Transforms.read(parent)
    rows, splits = dataset.encode(transforms), dataset.splits()
    source, artifact = BASELINE, parent
    with tempfile.TemporaryDirectory(prefix="rankine-compress-") as scratch:
        for number, step_of in enumerate(recipe.passes, start=1):
            draft = Draft("compress", parent=artifact)
            match step_of:
                case Distill():
                    name = _new_name(artifact, f"{recipe.name}-fp32")
                    _distill(draft, artifact, source, name, step_of, (dataset, rows, splits), recipe.seed, emit)
                case Quantize():
                    name = _new_name(artifact, f"{recipe.name}-int8")
                    sample = np.random.default_rng(recipe.seed).permutation(splits.train)[: step_of.calibration_rows]
                    _quantize(draft, artifact, source, name, step_of, rows.select(np.sort(sample)), emit)
            if number == len(recipe.passes):
                draft.put_json(RECIPE_FILE, recipe)
                return draft.commit(out)
            source, artifact = name, draft.commit(Path(scratch) / f"pass-{number}")
    raise UsageError("a recipe needs at least one pass")


def _distill(
    draft: Draft,
    artifact: Artifact,
    source: str,
    name: str,
    settings: Distill,
    data: tuple[Dataset, Batch, Splits],
    seed: int,
    emit: Emit,
) -> None:
    from rankine.compression.distill import distill

    model = load_model(artifact, source)
    if model.checkpoint is None:
        raise UsageError(
            "distillation needs a trainable model, and this variant is a graph only",
            where=source,
            hint="Put 'distill' before 'quantize' in the recipe.",
        )
    dataset, rows, splits = data
    student, result = distill(
        load_checkpoint(model.checkpoint),
        Examples(rows.select(splits.train), dataset.labels[splits.train]),
        Examples(rows.select(splits.validation), dataset.labels[splits.validation]),
        settings,
        seed=seed,
        emit=emit,
    )
    put_trained(
        draft,
        student,
        student.config,
        name=name,
        parent=source,
        steps=(f"distilled to {_sizes_text(student.config)}: {result.best_epoch} epochs",),
        validation_auc=result.validation_auc,
        details={"distill": settings.model_dump(mode="json"), "fit": result.model_dump(mode="json")},
    )


def _quantize(
    draft: Draft, artifact: Artifact, source: str, name: str, settings: Quantize, sample: Batch, emit: Emit
) -> None:
    from rankine.compression.quantize import quantize_graph, quantize_table

    parent, model = read_variant(artifact, source), load_model(artifact, source)
    if model.numeric != "fp32":
        raise UsageError("the variant is INT8 already", where=source, hint="Leave the second 'quantize' out.")
    with step(emit, "quantize", total=None, unit="rows") as advance, tempfile.TemporaryDirectory() as scratch:
        tables = {table: quantize_table(values, settings.tables) for table, values in model.tables.items()}
        advance(0, f"calibrating on {sample.rows} training rows")
        inputs = reference_lookup(model.schema, model.tables, sample, np.float32)
        graph = Path(scratch) / "graph.onnx"
        quantize_graph(model.graph, inputs, graph, method=settings.method, equalize=settings.equalize)
        draft.put_file(f"variants/{name}/graph.onnx", graph)
    variant = Variant(
        name=name,
        parent=source,
        numeric="int8",
        steps=(*parent.steps, f"INT8, {settings.method} ranges of {sample.rows} rows, tables {settings.tables}"),
        macs_per_row=parent.macs_per_row,
        tables=write_tables(draft, name, tables),
        details={"quantize": settings.model_dump(mode="json")},
    )
    draft.put_json(f"variants/{name}/variant.json", variant)
    emit(Note("quantize", "tables", {"bytes": sum(table.size_bytes for table in tables.values())}))


def _sizes_text(config: Frozen) -> str:
    """A model's own sizes, such as ``hidden 64-32, cross_layers 1``."""
    sizes = config.model_dump(mode="json")
    shown = {key: sizes[key] for key in ("hidden", "cross_layers") if key in sizes}
    return ", ".join(
        f"{key} {'-'.join(map(str, value)) if isinstance(value, list) else value}" for key, value in shown.items()
    )


def _new_name(artifact: Artifact, wanted: str) -> str:
    """``wanted``, or the first of ``wanted-2``, ``wanted-3``, … that no variant has."""
    taken, name, number = variant_names(artifact), wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name

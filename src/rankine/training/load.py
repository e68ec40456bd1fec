"""``load``: a model that was trained elsewhere into an artifact with the baseline variant, proved to be the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.data.dataset import Dataset, Splits
from rankine.data.stream import StreamedDataset
from rankine.errors import DataError
from rankine.events import Emit, Note, ignore, step
from rankine.metrics import auc
from rankine.models.columns import Batch
from rankine.models.intake.links import settle_links
from rankine.models.intake.origin import Proof
from rankine.models.intake.read import Foreign, read_model
from rankine.models.intake.refusal import ModelError
from rankine.models.random_rows import random_batch
from rankine.models.schema import DenseFeature, Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, Table, Variant, write_tables
from rankine.training.record import TRAINING_FILE, BaselineRecord, data_part

if TYPE_CHECKING:
    from torch import nn

    from rankine.models.rewrite import Rewritten

__all__ = ["load"]

_RANDOM_ROWS = (1, 7, 512)
_REAL_ROWS = 2048
_SUM_TOLERANCE = 1e-3
_SCORE_ROWS = 8192
_MOST_DIFFERING_SHARE = 0.5

Logits = Callable[[Batch], np.ndarray]


def load(
    model: nn.Module | str | Path,
    schema: Schema,
    dataset: Dataset,
    *,
    out: Path,
    name: str,
    emit: Emit = ignore,
) -> Artifact:
    """Bring a trained model in as the baseline, and write it as an artifact.

    The model is taken apart into a dense graph and tables, and these are proved equal to it on random and on real rows.
    The test rows are not looked at.

    Args:
        model: an ``nn.Module``, a reference ``module:function``, or the path of a ``.pt2`` or ``.onnx`` file.
        schema: the model's features, tasks and, unless it takes one tensor a feature in their order, its ``call``.
        dataset: rows that the schema reads; transforms are fitted on its training rows.
        out: folder to write; must not exist.
        name: of the model, as it will be served.

    Raises:
        ModelError: the model cannot be read or exported, does not fit the schema, or is not equal to what it became.
        RewriteError: it reads ids in a way that cannot be moved out of the graph; names the place.
        DataError: the rows do not fit the schema.
    """
    refuse_existing(out)
    dataset = _with_schema(dataset, schema)
    dataset.check()
    _check_sides(dataset, emit)
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    _note_transforms(schema, emit)
    with step(emit, "read model"):
        foreign = read_model(model, schema, transforms.table_rows())
    rows = dataset.encode(replace(transforms, schema=foreign.schema))
    with step(emit, "rewrite") as advance:
        rewritten = _rewrite(foreign)
        advance(0, f"{len(rewritten.tables)} tables, {len(rewritten.graph.graph.node)} operators")
    tables = _tables(rewritten, transforms)
    resolved = settle_links(foreign.schema, rewritten.links, emit)
    found = _dense_scorer(rewritten, resolved, tables)
    with step(emit, "prove equal") as advance:
        expected, probabilities = _original(foreign, resolved, rewritten)
        proof = _prove(expected, found, resolved, transforms, rows, splits)
        advance(0, f"largest difference of logits {proof.max_error:.1e} on {sum(proof.rows.values())} rows")
    _check_tasks(found, rows, resolved, splits)
    draft = Draft("load", name=name)
    replace(transforms, schema=resolved).write(draft)
    validation_auc = _validation_auc(found, rows, dataset.labels, splits)
    _put_baseline(draft, foreign, rewritten, resolved, tables, probabilities, validation_auc)
    record = BaselineRecord(
        dataset=dataset.name,
        provenance=dataset.provenance,
        rows={"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
        best_auc=dataset.best_auc,
        origin=foreign.origin,
        proof=proof,
    )
    draft.put_json(TRAINING_FILE, record)
    return draft.commit(out)


def _with_schema(dataset: Dataset, schema: Schema) -> Dataset:
    """The data set, read by ``schema``."""
    if data_part(dataset.schema) != data_part(schema):
        raise DataError(
            "was read by another schema than the model's",
            where=dataset.name,
            hint="Read the rows with the schema that is given for the model.",
        )
    return replace(dataset, schema=schema)


def _check_sides(dataset: Dataset, emit: Emit) -> None:
    """Refuse item features that are not the item's: then what is served is not what the model was trained on.

    Raises:
        DataError: most items have other values in other rows.
    """
    names = ", ".join(feature.name for feature in dataset.schema.catalog_features)
    if isinstance(dataset, StreamedDataset) and names:
        emit(Note("sides", f"{names}: not checked to be the item's, as the rows stay on disk; the last are used"))
    differing, items = int(dataset.provenance.get("item_conflicts", "0")), len(dataset.item_ids)
    if differing > _MOST_DIFFERING_SHARE * items:
        raise DataError(
            "the static item features are not the same in all rows of an item",
            where=f"{dataset.name}: {names}",
            got=f"{differing} of {items} items differ",
            hint="Give those that differ 'side: request' or 'side: pair', or 'freshness: live'.",
        )
    if differing:
        emit(Note("sides", f"{names}: {differing} of {items} items have other values in other rows; the last are used"))


def _note_transforms(schema: Schema, emit: Emit) -> None:
    """Tell where the schema changes what the model gets: it was trained on ids and numbers of its own."""
    changed = [f.name for f in schema.features if isinstance(f, DenseFeature) and f.normalization != "none"]
    numbered = [f.name for f in schema.features if not isinstance(f, DenseFeature) and f.encoding.type == "vocabulary"]
    if changed:
        hint = "write 'normalization: none' where the model was trained on the values as they are"
        emit(Note("transforms", f"{', '.join(changed)}: normalized before the model gets them; {hint}"))
    if numbered:
        hint = "write an identity encoding where the column holds the model's own ids"
        emit(Note("transforms", f"{', '.join(numbered)}: numbered anew by their sorted values; {hint}"))


def _rewrite(foreign: Foreign) -> Rewritten:
    from rankine.models.rewrite import RewriteError, rewrite

    try:
        return rewrite(foreign.graph, foreign.schema)
    except RewriteError as error:
        if foreign.fixed_rows is None:
            raise
        raise ModelError(
            "the graph seems to fix the number of rows inside",
            where=foreign.fixed_rows,
            got=error.message,
            hint="Export it with a dynamic batch dimension (torch.onnx.export: dynamic_shapes or dynamic_axes).",
        ) from error


def _tables(rewritten: Rewritten, transforms: Transforms) -> dict[str, Table]:
    """The tables as an artifact holds them.

    Raises:
        ModelError: one has fewer rows than its encoding has ids.
    """
    needed = transforms.table_rows()
    for name, rows in rewritten.tables.items():
        if len(rows) < needed.get(name, 0):
            raise ModelError(
                "the model's table has fewer rows than its encoding has ids",
                where=name,
                got=f"{len(rows)} rows for {needed[name]} ids",
                hint="Use the encoding by which the model was trained; for the model's own ids that is 'identity'.",
            )
    return {name: Table(rows) for name, rows in rewritten.tables.items()}


def _dense_scorer(rewritten: Rewritten, schema: Schema, tables: Mapping[str, Table]) -> Logits:
    from rankine.models.intake.prove import DenseScorer

    return DenseScorer(rewritten.graph, schema, tables)


def _original(foreign: Foreign, schema: Schema, rewritten: Rewritten) -> tuple[Logits, tuple[str, ...]]:
    """What scores rows with the user's own model, and the tasks whose logits it must compute from probabilities."""
    if foreign.program is None:
        from rankine.models.intake.prove import OriginalScorer

        return OriginalScorer(foreign.graph, schema), ()
    from rankine.models.intake.scorer import Called, ProgramScorer

    scorer = ProgramScorer(foreign.program, Called(features=schema))
    probabilities: tuple[str, ...] = ()
    if not scorer.sigmoids:
        pairs = zip(schema.task_names, rewritten.links, strict=True)
        probabilities = tuple(name for name, link in pairs if link == "sigmoid")
        scorer = ProgramScorer(foreign.program, Called(features=schema, probabilities=probabilities))
    return scorer.numpy, probabilities


def _prove(
    expected: Logits, found: Logits, schema: Schema, transforms: Transforms, rows: Batch, splits: Splits
) -> Proof:
    from rankine.models.intake.prove import prove

    sizes = transforms.table_rows()
    seen = np.concatenate([splits.train, splits.validation])
    sample = np.random.default_rng(0).choice(seen, min(_REAL_ROWS, len(seen)), replace=False)
    batches = [("random", random_batch(schema, sizes, count, seed=count)) for count in _RANDOM_ROWS]
    return prove(expected, found, [*batches, ("real", rows.select(np.sort(sample)))])


def _check_tasks(found: Logits, rows: Batch, schema: Schema, splits: Splits) -> None:
    """Refuse the classes of a softmax that are taken for tasks: the first would be the score, often the wrong class.

    Raises:
        ModelError: the outputs of every row sum to one.
    """
    if len(schema.tasks) == 1 or any(task.link == "sigmoid" for task in schema.tasks):
        return
    outputs = found(rows.select(splits.train[:_SCORE_ROWS])).astype(np.float64)
    if outputs.min() >= 0 and np.abs(outputs.sum(axis=1) - 1).max() < _SUM_TOLERANCE:
        raise ModelError(
            "the outputs of every row sum to 1: they are the classes of one softmax, not tasks",
            where="tasks",
            got=", ".join(schema.task_names),
            hint="Return the probability of one class: wrap the model in a module whose forward ends in [:, 1].",
        )


def _validation_auc(found: Logits, rows: Batch, labels: np.ndarray, splits: Splits) -> float | None:
    """AUC of the first task on the validation rows; None where these have one class only."""
    chosen = splits.validation
    parts = [found(rows.select(chosen[start : start + _SCORE_ROWS])) for start in range(0, len(chosen), _SCORE_ROWS)]
    positive = labels[chosen, 0]
    return auc(positive, np.concatenate(parts)[:, 0]) if 0 < positive.sum() < len(positive) else None


def _put_baseline(
    draft: Draft,
    foreign: Foreign,
    rewritten: Rewritten,
    schema: Schema,
    tables: Mapping[str, Table],
    probabilities: tuple[str, ...],
    validation_auc: float | None,
) -> None:
    import onnx

    from rankine.models.macs import count_graph_macs

    with tempfile.TemporaryDirectory(prefix="rankine-load-") as scratch:
        graph = Path(scratch) / "graph.onnx"
        onnx.save(rewritten.graph, graph)
        draft.put_file(f"variants/{BASELINE}/graph.onnx", graph)
        if foreign.program is not None:
            from rankine.models.intake.scorer import Called, write_scorer

            folder = Path(scratch) / "checkpoint"
            write_scorer(foreign.program, Called(features=schema, probabilities=probabilities), folder)
            draft.put_folder(f"variants/{BASELINE}/checkpoint", folder)
    variant = Variant(
        name=BASELINE,
        numeric="fp32",
        steps=(f"loaded from {foreign.origin.reference}",),
        macs_per_row=count_graph_macs(rewritten.graph),
        tables=write_tables(draft, BASELINE, tables),
        validation_auc=validation_auc,
        details={"origin": foreign.origin.model_dump(mode="json"), "rewrites": list(rewritten.notes)},
    )
    draft.put_json(f"variants/{BASELINE}/variant.json", variant)

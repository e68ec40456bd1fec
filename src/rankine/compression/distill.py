"""Distillation: a narrower student learns from the labels and from the teacher's probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.recipe import Distill
from rankine.errors import UsageError
from rankine.events import Emit, step
from rankine.metrics import sigmoid
from rankine.models.columns import Batch
from rankine.models.zoo import build_model
from rankine.training.fit import Examples, FitResult, fit, predict_logits

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["distill"]

_CHUNK_ROWS = 65536
_STUDENT_SETTINGS = ("hidden", "cross_layers", "dropout")


def distill(
    teacher: RankingModel, train: Examples, validation: Examples, settings: Distill, *, seed: int, emit: Emit
) -> tuple[RankingModel, FitResult]:
    """Train a student of ``teacher``.

    Args:
        train: training rows and labels.
        validation: validation rows and labels; decides when to stop.
        seed: of initial weights, drawn rows and order.

    Returns:
        The student with its best weights, and the history of its training.
    """
    import torch

    torch.manual_seed(seed)
    student = _student_of(teacher, settings)  # first: a recipe that does not fit is refused before the work
    examples = [Examples(train.batch, _mixed_targets(teacher, train, settings.teacher_weight, emit))]
    drawn = draw_rows(train.batch, round(settings.drawn_rows * train.batch.rows), seed)
    if drawn is not None and drawn.rows:
        examples.append(Examples(drawn, _teach(teacher, drawn, "teacher on drawn rows", emit)))
    config = settings.fit.model_copy(update={"seed": seed})
    result = fit(student, _join(examples), validation, config, task="distill student", emit=emit)
    return student, result


def draw_rows(batch: Batch, rows: int, seed: int) -> Batch | None:
    """Requests and items of ``batch``, recombined at random, each as often as it occurs; None where there are
    features of the (request, candidate) row, which cannot be recombined."""
    if batch.pair:
        return None
    generator = np.random.default_rng(seed)
    requests = batch.request_index[generator.integers(0, batch.rows, rows)]
    items = batch.item_index[generator.integers(0, batch.rows, rows)]
    return replace(batch, request_index=requests, item_index=items)


def _student_of(teacher: RankingModel, settings: Distill) -> RankingModel:
    """The teacher's architecture in the sizes of ``settings``, as far as it has them; untrained.

    Raises:
        UsageError: a size was given that the architecture does not have.
    """
    config = teacher.config.model_dump(mode="json")
    config |= {key: getattr(settings, key) for key in _STUDENT_SETTINGS if key in config}
    for key in _STUDENT_SETTINGS:
        if key not in config and key in settings.model_fields_set:
            raise UsageError(
                f"a {config['architecture']} has no setting '{key}'",
                where=f"distill: {key}",
                allowed=", ".join(known for known in _STUDENT_SETTINGS if known in config),
                hint="Leave it out of the recipe.",
            )
    student = build_model(teacher.schema, teacher.table_rows, config)
    if settings.warm_start:
        student.tables.load_state_dict(teacher.tables.state_dict())
    return student


def _mixed_targets(teacher: RankingModel, train: Examples, teacher_weight: float, emit: Emit) -> np.ndarray:
    if not teacher_weight:
        return train.targets.astype(np.float32)
    probabilities = _teach(teacher, train.batch, "teacher on training rows", emit)
    return (teacher_weight * probabilities + (1 - teacher_weight) * train.targets).astype(np.float32)


def _teach(teacher: RankingModel, batch: Batch, task: str, emit: Emit) -> np.ndarray:
    """The teacher's probabilities, float32 ``(rows, tasks)``."""
    parts = []
    with step(emit, task, total=batch.rows, unit="rows") as advance:
        for start in range(0, batch.rows, _CHUNK_ROWS):
            parts.append(predict_logits(teacher, batch.select(slice(start, start + _CHUNK_ROWS))))
            advance(min(start + _CHUNK_ROWS, batch.rows), "")
    return sigmoid(np.concatenate(parts)).astype(np.float32)


def _join(examples: list[Examples]) -> Examples:
    """Examples over the same request and item columns, one after the other."""
    first = examples[0].batch
    batch = replace(
        first,
        request_index=np.concatenate([part.batch.request_index for part in examples]),
        item_index=np.concatenate([part.batch.item_index for part in examples]),
    )
    if len(examples) == 1:
        batch = first
    return Examples(batch, np.concatenate([part.targets for part in examples]))

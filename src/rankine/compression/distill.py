"""Distillation: a smaller student of the same architecture learns from the labels and from the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import Distill
from rankine.errors import UsageError
from rankine.models.network import Network, network_of
from rankine.training.fit import fit

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["distill"]

_SHORTHAND = ("hidden", "cross_layers", "dropout")
"""Settings of the pass that are sizes of most architectures; one that an architecture lacks is only refused where it
is not the default. (Not where it was given: a recipe that is stored and read back gives all of them.)"""


def distill(network: Network, settings: Distill, context: Context) -> Outcome:
    """Train a student of the reference model that ``network`` is.

    Raises:
        UsageError: it is none, or a size was given that its architecture does not have.
    """
    import torch

    teacher = network.module
    if teacher is None:
        raise UsageError(
            "distillation to a smaller student needs a reference model, whose architecture is known",
            where="recipe: distill",
            got="a graph",
            hint="Put 'distill' first; for a model from elsewhere use 'prune' and 'low_rank', which read its graph.",
        )
    torch.manual_seed(context.seed)
    student = student_of(teacher, settings)  # first: a recipe that does not fit is refused before the work
    config = settings.fit.model_copy(update={"seed": context.seed})
    examples = context.examples(settings.teacher_weight, settings.drawn_rows)
    hints = None
    if settings.hidden_weight:
        from rankine.compression.hints import Hints

        hints = Hints(teacher, student, settings.hidden_weight)
    try:
        result = fit(
            student, examples, context.validation, config, task="distill student", extra_loss=hints, emit=context.emit
        )
    finally:
        if hints is not None:
            hints.remove()
    return Outcome(
        network_of(student),
        f"distilled to {_sizes_text(teacher, student)}: {result.best_epoch} epochs",
        {"sizes": student.config.model_dump(mode="json"), "fit": result.model_dump(mode="json")},
    )


def student_of(teacher: RankingModel, settings: Distill) -> RankingModel:
    """The teacher's architecture in the sizes of ``settings``, as far as it has them; untrained.

    Raises:
        UsageError: a size was given that the architecture does not have.
    """
    from rankine.models.zoo import build_model

    config = teacher.config.model_dump(mode="json")
    shorthand = {key: getattr(settings, key) for key in _SHORTHAND}
    given = {key: value for key, value in shorthand.items() if value != Distill.model_fields[key].default}
    given |= settings.sizes
    for key in given:
        if key not in config or key == "architecture":
            raise UsageError(
                f"a {config['architecture']} has no setting '{key}'",
                where=f"distill: {key}",
                allowed=", ".join(known for known in config if known != "architecture"),
                hint="Leave it out of the recipe.",
            )
    known = {key: value for key, value in shorthand.items() if key in config}
    student = build_model(teacher.schema, teacher.table_rows, config | known | given)
    if settings.warm_start:
        _warm_start(teacher, student)
    return student


def _warm_start(teacher: RankingModel, student: RankingModel) -> None:
    """Give the student the teacher's embeddings; in fewer columns their principal ones, common to all tables, so that
    dot products between tables stay what they were as far as they can. Columns beside the embedding (first-order
    weights) are taken over as they are."""
    import torch

    from rankine.models.zoo.base import tables_of

    beside = teacher.columns - int(getattr(teacher.config, "embedding_dim", teacher.columns))
    wide, narrow = teacher.columns - beside, student.columns - beside
    source, target = tables_of(teacher), tables_of(student)
    basis = np.eye(wide)
    if narrow < wide:
        products = sum(table[:, :wide].double().T @ table[:, :wide].double() for table in source.values())
        basis = np.linalg.eigh(np.asarray(products))[1][:, ::-1]
    kept = min(narrow, wide)
    with torch.no_grad():
        for name, table in source.items():
            target[name][:, :kept] = table[:, :wide] @ torch.from_numpy(basis[:, :kept].astype(np.float32))
            if beside:
                target[name][:, narrow:] = table[:, wide:]


def _sizes_text(teacher: RankingModel, student: RankingModel) -> str:
    """The settings in which a student differs, such as ``hidden 64-32, cross_layers 1``."""
    before, after = teacher.config.model_dump(mode="json"), student.config.model_dump(mode="json")
    shown = {key: value for key, value in after.items() if value != before[key] and key != "dropout"}
    return ", ".join(f"{key} {_text(value)}" for key, value in shown.items()) or "the same sizes"


def _text(value: Any) -> str:
    return ("-".join(map(str, value)) or "none") if isinstance(value, list) else str(value)

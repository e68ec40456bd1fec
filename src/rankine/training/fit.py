"""The fit loop: Adam, early stopping on validation AUC with patience, labels and optionally a teacher."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rankine.data.encoded import shuffled
from rankine.data.labels import check_classes
from rankine.errors import UsageError
from rankine.events import Emit, Note, ignore, step
from rankine.metrics import auc, log_loss
from rankine.models.columns import Batch
from rankine.models.inputs import TorchInputs, torch_inputs
from rankine.training.config import Epoch, FitConfig, FitResult

if TYPE_CHECKING:
    from rankine.models.torch_graph import GraphModel
    from rankine.models.zoo.base import RankingModel

    Trainable = RankingModel | GraphModel
    """What has a schema, and tables before a dense part: ``model(inputs) = dense(embed(inputs))``."""

__all__ = [
    "Epoch",
    "Examples",
    "ExtraLoss",
    "FitConfig",
    "FitResult",
    "Trainable",
    "fit",
    "predict_logits",
    "task_aucs",
]

_PREDICT_ROWS = 8192
_TELL_EVERY = 20


class ExtraLoss(Protocol):
    """A further loss of the rows that the model has just scored."""

    def __call__(self, inputs: TorchInputs) -> Tensor: ...
    def parameters(self) -> Iterator[Tensor]: ...


@dataclass(frozen=True)
class Examples:
    """Encoded rows with their targets.

    Attributes:
        batch: the rows.
        targets: ``(rows, tasks)`` float32 in [0, 1]: labels, a teacher's probabilities, or a mixture of both.
    """

    batch: Batch
    targets: np.ndarray

    def select(self, rows: np.ndarray) -> Examples:
        return Examples(self.batch.select(rows), self.targets[rows])


def fit(
    model: Trainable,
    train: Examples,
    validation: Examples,
    config: FitConfig,
    *,
    task: str = "train",
    start: bool = False,
    extra_loss: ExtraLoss | None = None,
    emit: Emit = ignore,
) -> FitResult:
    """Train ``model`` in place until validation stops improving, and leave it with its best weights.

    With several tasks the loss is the weighted sum of theirs, and validation AUC the mean of theirs.

    Args:
        train: rows and targets; targets may be soft (a teacher's probabilities).
        validation: rows and labels.
        start: the weights are trained already: they are epoch 0, and are kept where no epoch is better.
        extra_loss: added to the loss of each step; its own weights are trained too.

    Raises:
        UsageError: the loss became infinite or NaN.
        DataError: the validation rows of a task have one class only.
    """
    check_classes(model.schema.tasks, validation.targets, "validation")
    begin = perf_counter()
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(config.seed)
    order = np.random.default_rng(config.seed)
    weights = [*model.parameters(), *(extra_loss.parameters() if extra_loss is not None else ())]
    optimizer = torch.optim.Adam(weights, lr=config.learning_rate)
    average = _Average(model, config.average_decay)
    history: list[Epoch] = []
    best, best_auc, best_epoch, best_weights = -np.inf, 0.0, 0, _copy_weights(model)
    if start:
        best_auc, loss = _validated(model, validation)
        best = best_auc if config.select == "auc" else -loss
    with step(emit, task, total=None, unit="epochs") as advance:
        for number in range(1, config.max_epochs + 1):
            epoch_begin = perf_counter()
            tell = partial(_tell, advance, number)
            loss = _run_epoch(model, average, optimizer, train, config, order, extra_loss, tell)
            score, held_out_loss = _validated(average.model, validation)
            epoch = Epoch(
                epoch=number,
                train_loss=loss,
                validation_auc=score,
                validation_loss=held_out_loss,
                seconds=perf_counter() - epoch_begin,
            )
            history.append(epoch)
            emit(Note(task, f"epoch {number}", {"loss": loss, "validation AUC": score}))
            advance(number, f"validation AUC {score:.5f}")
            watched = score if config.select == "auc" else -held_out_loss
            if watched > best + config.min_improvement:
                best, best_auc, best_epoch, best_weights = watched, score, number, _copy_weights(average.model)
            elif number - best_epoch >= config.patience:
                break
    model.load_state_dict(best_weights)
    model.eval()
    return FitResult(
        history=tuple(history),
        best_epoch=best_epoch,
        validation_auc=best_auc,
        converged=len(history) - best_epoch >= config.patience,
        seconds=perf_counter() - begin,
    )


def predict_logits(model: Trainable, batch: Batch, rows_at_once: int = _PREDICT_ROWS) -> np.ndarray:
    """Logits, float32 ``(rows, tasks)``."""
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, batch.rows, rows_at_once):
            part = batch.select(slice(start, start + rows_at_once))
            parts.append(model(torch_inputs(part, model.schema)).numpy())
    model.train(was_training)
    return np.concatenate(parts) if parts else np.zeros((0, len(model.schema.tasks)), np.float32)


def task_aucs(labels: np.ndarray, logits: np.ndarray) -> list[float]:
    """AUC of each task; both ``(rows, tasks)``.

    Raises:
        DataError: a task has only one class.
    """
    return [auc(labels[:, task], logits[:, task]) for task in range(labels.shape[1])]


def _validated(model: Trainable, validation: Examples) -> tuple[float, float]:
    """AUC and log loss (nats; of an output that is a score as it is the squared error) of the validation rows, each the
    mean over tasks."""
    outputs = predict_logits(model, validation.batch)
    losses = [
        log_loss(labels, values) if task.link == "sigmoid" else np.square(values - labels).mean()
        for task, labels, values in zip(model.schema.tasks, validation.targets.T, outputs.T, strict=True)
    ]
    return float(np.mean(task_aucs(validation.targets, outputs))), float(np.mean(losses))


class _Average:
    """The moving average of a model's weights, in a model of its own."""

    def __init__(self, model: Trainable, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self._decay, self._steps = decay, 0
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._current: list[Tensor] = list(model.parameters())

    def update(self) -> None:
        """Take in the weights after a step; early steps weigh more, so that the first weights are soon forgotten."""
        self._steps += 1
        decay = min(self._decay, self._steps / (10 + self._steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._current, 1 - decay)


def _run_epoch(
    model: Trainable,
    average: _Average,
    optimizer: torch.optim.Optimizer,
    train: Examples,
    config: FitConfig,
    order: np.random.Generator,
    extra_loss: ExtraLoss | None,
    tell: Callable[[int, int, float], None],
) -> float:
    """One pass over the training rows in a new order; returns the mean loss."""
    rows = shuffled(train.batch, order)
    starts = range(0, len(rows), config.batch_rows)
    losses = []
    for at, start in enumerate(starts):
        part = train.select(rows[start : start + config.batch_rows])
        losses.append(_step(model, optimizer, part, config, extra_loss))
        average.update()
        if at % _TELL_EVERY == 0:
            tell(at, len(starts), losses[-1])
    if not np.isfinite(losses).all():
        raise UsageError(
            "training diverged: the loss is not finite",
            where="fit: learning_rate",
            got=f"{config.learning_rate:g}, {int((~np.isfinite(losses)).sum())} of {len(losses)} steps not finite",
            hint="Lower learning_rate; if that does not help, look for huge values in the dense features.",
        )
    return float(np.mean(losses))


def _tell(advance: Callable[[int, str], None], epoch: int, at: int, steps: int, loss: float) -> None:
    advance(epoch - 1, f"epoch {epoch}, step {at}/{steps}, loss {loss:.4f}")


def _step(
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    part: Examples,
    config: FitConfig,
    extra_loss: ExtraLoss | None,
) -> float:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    inputs = torch_inputs(part.batch, model.schema)
    embedded = model.embed(inputs)
    loss = _weighted_loss(model, model.dense(embedded), torch.from_numpy(part.targets))
    total = loss
    if config.embedding_l2:
        total = loss + config.embedding_l2 * _mean_square_norm(model, embedded)
    if extra_loss is not None:
        total = total + extra_loss(inputs)
    total.backward()
    optimizer.step()
    return float(loss.detach())


def _weighted_loss(model: Trainable, outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over tasks of their weighted losses: cross-entropy of logits; of an output that is a score as it is, the
    squared error."""
    losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    if any(task.link == "identity" for task in model.schema.tasks):
        as_it_is = torch.tensor([task.link == "identity" for task in model.schema.tasks])
        losses = torch.where(as_it_is, (outputs - targets).square(), losses)
    return (losses.mean(dim=0) * torch.tensor([task.weight for task in model.schema.tasks])).sum()


def _mean_square_norm(model: Trainable, embedded: list[Tensor]) -> Tensor:
    """Squared norm of the embeddings of a row, over all features but the dense ones, averaged over rows; of a sequence
    the mean over its values, so that a long history does not outweigh everything else."""
    total = torch.zeros(())
    for part, feature in zip(embedded, model.schema.features, strict=True):
        if feature.kind == "sequence":
            total = total + (part[:, :-1].square().sum(dim=1) / part[:, -1].clamp(min=1)).mean()
        elif feature.kind != "dense":
            total = total + part.square().sum(dim=1).mean()
    return total


def _copy_weights(model: Trainable) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}

"""The fit loop: Adam, early stopping on validation AUC with patience, labels and optionally a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rankine.config import Frozen
from rankine.errors import UsageError
from rankine.events import Emit, Note, ignore, step
from rankine.metrics import auc
from rankine.models.columns import Batch
from rankine.models.inputs import torch_inputs

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["Epoch", "Examples", "FitConfig", "FitResult", "fit", "predict_logits"]

_PREDICT_ROWS = 8192


class FitConfig(Frozen):
    """How a model is trained.

    Attributes:
        embedding_l2: weight of the mean squared norm of the embeddings that a row reads. Ids are what overfits in a
            ranking model, and this holds each as often as it is seen.
        max_epochs: a bound only; training ends ``patience`` epochs after validation AUC was last better by more than
            ``min_improvement``.
        decay: learning rate is multiplied by this after an epoch that was not better.
    """

    batch_rows: int = Field(4096, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    embedding_l2: float = Field(5e-3, ge=0)
    max_epochs: int = Field(40, ge=1)
    patience: int = Field(2, ge=1)
    min_improvement: float = Field(0.0, ge=0)
    decay: float = Field(0.3, gt=0, le=1)
    seed: int = 0
    threads: int | None = Field(None, ge=1)


class Epoch(Frozen):
    """What one pass over the training rows came to."""

    epoch: int
    train_loss: float
    validation_auc: float
    learning_rate: float
    seconds: float


class FitResult(Frozen):
    """History of a training; the model holds the weights of ``best_epoch``.

    Attributes:
        converged: False where ``max_epochs`` ended the training before patience did.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    validation_auc: float
    converged: bool
    seconds: float


@dataclass(frozen=True)
class Examples:
    """Encoded rows with their targets.

    Attributes:
        batch: the rows.
        targets: ``(rows,)`` float32 in [0, 1]: labels, a teacher's probabilities, or a mixture of both.
    """

    batch: Batch
    targets: np.ndarray

    def select(self, rows: np.ndarray) -> Examples:
        return Examples(self.batch.select(rows), self.targets[rows])


def fit(
    model: RankingModel,
    train: Examples,
    validation: Examples,
    config: FitConfig,
    *,
    task: str = "train",
    emit: Emit = ignore,
) -> FitResult:
    """Train ``model`` in place until validation AUC stops improving, and leave it with its best weights.

    Args:
        train: rows and targets; targets may be soft (a teacher's probabilities).
        validation: rows and labels.

    Raises:
        UsageError: the loss became infinite or NaN.
    """
    begin = perf_counter()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    torch.manual_seed(config.seed)
    order = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    history: list[Epoch] = []
    best_auc, best_epoch, best_weights = -1.0, 0, _copy_weights(model)
    steps = -(-train.batch.rows // config.batch_rows)
    with step(emit, task, total=None, unit="epochs") as advance:
        for number in range(1, config.max_epochs + 1):
            epoch_begin = perf_counter()
            losses = []
            for at, (batch, targets) in enumerate(_minibatches(train, config.batch_rows, order)):
                losses.append(_step(model, optimizer, batch, targets, config))
                if at % 20 == 0:
                    advance(number - 1, f"epoch {number}, step {at}/{steps}, loss {losses[-1]:.4f}")
            if not np.isfinite(losses[-1]):
                raise UsageError("training diverged: the loss is not finite", hint="Lower learning_rate.")
            score = auc(validation.targets, predict_logits(model, validation.batch))
            epoch = Epoch(
                epoch=number,
                train_loss=float(np.mean(losses)),
                validation_auc=score,
                learning_rate=optimizer.param_groups[0]["lr"],
                seconds=perf_counter() - epoch_begin,
            )
            history.append(epoch)
            emit(Note(task, f"epoch {number}", {"loss": epoch.train_loss, "validation AUC": score}))
            advance(number, f"validation AUC {score:.5f}")
            if score > best_auc + config.min_improvement:
                best_auc, best_epoch, best_weights = score, number, _copy_weights(model)
                continue
            if number - best_epoch >= config.patience:
                break
            # Plateau: go on from the best weights with smaller steps.
            model.load_state_dict(best_weights)
            for group in optimizer.param_groups:
                group["lr"] *= config.decay
    model.load_state_dict(best_weights)
    model.eval()
    return FitResult(
        history=tuple(history),
        best_epoch=best_epoch,
        validation_auc=best_auc,
        converged=len(history) - best_epoch >= config.patience,
        seconds=perf_counter() - begin,
    )


def predict_logits(model: RankingModel, batch: Batch, rows_at_once: int = _PREDICT_ROWS) -> np.ndarray:
    """Logits of the first task, float32 ``(rows,)``."""
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, batch.rows, rows_at_once):
            part = batch.select(slice(start, start + rows_at_once))
            parts.append(model(torch_inputs(part, model.schema))[:, 0].numpy())
    model.train(was_training)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _minibatches(examples: Examples, batch_rows: int, order: np.random.Generator) -> Iterator[tuple[Batch, np.ndarray]]:
    shuffled = order.permutation(examples.batch.rows)
    for start in range(0, len(shuffled), batch_rows):
        part = examples.select(shuffled[start : start + batch_rows])
        yield part.batch, part.targets


def _step(
    model: RankingModel, optimizer: torch.optim.Optimizer, batch: Batch, targets: np.ndarray, config: FitConfig
) -> float:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    embedded = model.embed(torch_inputs(batch, model.schema))
    loss = functional.binary_cross_entropy_with_logits(model.dense(embedded)[:, 0], torch.from_numpy(targets))
    total = loss
    if config.embedding_l2:
        total = loss + config.embedding_l2 * _mean_square_norm(model, embedded)
    total.backward()
    optimizer.step()
    return float(loss.detach())


def _mean_square_norm(model: RankingModel, embedded: list[Tensor]) -> Tensor:
    """Squared norm of the embeddings of a row, over all features but the dense ones, averaged over rows."""
    features = model.schema.features
    parts = [part for part, feature in zip(embedded, features, strict=True) if feature.kind != "dense"]
    return torch.cat(parts, dim=1).square().sum(dim=1).mean()


def _copy_weights(model: RankingModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}

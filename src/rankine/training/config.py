"""How a model is trained, and what came of it: records without PyTorch, so that recipes can be read without it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rankine.config import Frozen

__all__ = ["Epoch", "FitConfig", "FitResult"]


class FitConfig(Frozen):
    """How a model is trained.

    Attributes:
        embedding_l2: weight of the mean squared norm of the embeddings that a row reads. Ids are what overfits in a
            ranking model, and this holds each as often as it is seen.
        select: what is watched on the validation rows: ``auc``, or ``log_loss`` (in nats), which also sees calibration.
        max_epochs: a bound only; training ends ``patience`` epochs after that was last better by more than
            ``min_improvement``.
        average_decay: validated and kept is the exponential moving average of the weights over steps (Polyak &
            Juditsky 1992); 0 keeps the last weights themselves.
    """

    batch_rows: int = Field(4096, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    embedding_l2: float = Field(default=6e-3, ge=0, allow_inf_nan=False)
    select: Literal["auc", "log_loss"] = "auc"
    max_epochs: int = Field(40, ge=1)
    patience: int = Field(2, ge=1)
    min_improvement: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    average_decay: float = Field(0.995, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    threads: int | None = Field(None, ge=1)


class Epoch(Frozen):
    """What one pass over the training rows came to."""

    epoch: int
    train_loss: float
    validation_auc: float
    validation_loss: float | None = None
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

"""Hidden features as a second target of distillation: Romero et al., "FitNets", ICLR 2015 (arXiv 1412.6550)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankine.errors import UsageError
from rankine.models.inputs import TorchInputs
from rankine.models.zoo.base import RankingModel

__all__ = ["Hints"]


class Hints(nn.Module):
    """Loss of a student whose last hidden layer, through a linear map that is learned with it, is to be the teacher's.

    Args:
        weight: of the mean squared error, in units of the variance of the teacher's features.

    Raises:
        UsageError: a model has no linear head to take the features in front of.
    """

    def __init__(self, teacher: RankingModel, student: RankingModel, weight: float) -> None:
        super().__init__()
        self._teacher, self._student, self._weight = [teacher.eval()], [student], weight  # in lists: not parameters
        self.map = nn.Linear(_head(student).in_features, _head(teacher).in_features)
        self._of_student: list[Tensor] = []
        self._hook = _head(student).register_forward_pre_hook(lambda _, given: self._seen(given[0]))

    def forward(self, inputs: TorchInputs) -> Tensor:
        """The loss of the rows that the student has just scored."""
        with torch.no_grad(), _captured(_head(self._teacher[0])) as features:
            self._teacher[0](inputs)
        wanted = features[0]
        error = functional.mse_loss(self.map(self._of_student[0]), wanted)
        return self._weight * error / wanted.var().clamp(min=1e-6)

    def remove(self) -> None:
        """Leave the student as it was, without the hook that hands on its features."""
        self._hook.remove()

    def _seen(self, features: Tensor) -> None:
        self._of_student[:] = [features]


@contextmanager
def _captured(head: nn.Linear) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        hook.remove()


def _head(model: RankingModel) -> nn.Linear:
    head = getattr(model, "head", None)
    if head is None and hasattr(model, "heads"):
        head = model.heads[0]
    if not isinstance(head, nn.Linear):
        raise UsageError("has no linear head whose features could be learned", where=type(model).__name__)
    return head

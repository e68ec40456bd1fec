"""Hidden features as a second target of distillation: Romero et al., "FitNets", ICLR 2015 (arXiv 1412.6550)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankine.errors import UsageError
from rankine.models.inputs import TorchInputs
from rankine.models.zoo.base import RankingModel

__all__ = ["Hints"]


class Hints(nn.Module):
    """Loss of a student whose last hidden layer, through a linear map that is learned with it, is to be the teacher's;
    where every task has a head, of the layers in front of all of them.

    Args:
        weight: of the mean squared error, in units of the variance of the teacher's features.

    Raises:
        UsageError: a model has no linear head to take the features in front of.
    """

    def __init__(self, teacher: RankingModel, student: RankingModel, weight: float) -> None:
        super().__init__()
        self._teacher, self._weight = [teacher.eval()], weight  # in a list: not a part of this module
        self.map = nn.Linear(_width(_heads(student)), _width(_heads(teacher)))
        self._seen = _Features(_heads(student))

    def forward(self, inputs: TorchInputs) -> Tensor:
        """The loss of the rows that the student has just scored."""
        teacher = self._teacher[0]
        features = _Features(_heads(teacher))
        try:
            with torch.no_grad():
                teacher(inputs)
            wanted = features.joined()
        finally:
            features.remove()
        error = functional.mse_loss(self.map(self._seen.joined()), wanted)
        return self._weight * error / wanted.var().clamp(min=1e-6)

    def remove(self) -> None:
        """Leave the student as it was, without the hooks that hand on its features."""
        self._seen.remove()


class _Features:
    """What the heads of a model have read when it scored last."""

    def __init__(self, heads: Sequence[nn.Linear]) -> None:
        self._read: dict[int, Tensor] = {}
        self._hooks = [
            head.register_forward_pre_hook(lambda _, given, at=at: self._read.__setitem__(at, given[0]))
            for at, head in enumerate(heads)
        ]

    def joined(self) -> Tensor:
        """``(rows, width)``."""
        return torch.cat([self._read[at] for at in sorted(self._read)], dim=1)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _width(heads: Sequence[nn.Linear]) -> int:
    return sum(head.in_features for head in heads)


def _heads(model: RankingModel) -> list[nn.Linear]:
    found = getattr(model, "heads", None) or [getattr(model, "head", None)]
    heads = [head for head in found if isinstance(head, nn.Linear)]
    if not heads:
        raise UsageError(
            "has no linear head whose features could be learned",
            where="recipe: distill.hidden_weight",
            got=type(model).__name__,
            hint="Set hidden_weight to 0.",
        )
    return heads

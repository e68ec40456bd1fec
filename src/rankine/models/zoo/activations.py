"""Activations with weights of their own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Activation", "Dice", "activation"]

Activation = Literal["dice", "prelu", "sigmoid"]

_EPSILON = 1e-8
_MOMENTUM = 0.01


def activation(name: Activation, width: int) -> nn.Module:
    """The module, for inputs ``(rows, width)``."""
    match name:
        case "dice":
            return Dice(width)
        case "prelu":
            return nn.PReLU(width)
        case "sigmoid":
            return nn.Sigmoid()


class Dice(nn.Module):
    """``p * x + (1 - p) * alpha * x``, ``p = sigmoid((x - mean) / std)``: a PReLU whose bend lies where the data do.

    Mean and variance are the batch's in training, and their running average afterwards (Zhou et al., arXiv 1706.06978,
    section 5.3).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        # Parameters without a gradient, not buffers: what averages a model's weights averages these as well.
        self.mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.variance = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = x.mean(dim=0), x.var(dim=0, unbiased=False)  # type: ignore[assignment]
            with torch.no_grad():
                self.mean.lerp_(mean, _MOMENTUM)
                self.variance.lerp_(variance, _MOMENTUM)
        share = torch.sigmoid((x - mean) * torch.rsqrt(variance + _EPSILON))
        return x * (share + (1 - share) * self.alpha)

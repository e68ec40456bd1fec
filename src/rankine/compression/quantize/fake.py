"""Fake quantization in PyTorch: values take the levels that they will have, gradients pass as if they did not.

Straight-through estimator (Bengio et al., arXiv 1308.3432); ranges of activations are learned with the weights, as in
LSQ+ (Bhalgat et al., CVPRW 2020, arXiv 2004.09576), here as factors of the calibrated ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rankine.compression.quantize.ranges import LEVELS, Range

__all__ = ["FakeActivation", "FakeRows", "FakeWeight"]

_LARGEST_WEIGHT = 127
_TINY = 1e-12


def _rounded(values: Tensor) -> Tensor:
    """Rounded to whole numbers, with the gradient of what came in."""
    rounded: Tensor = values + (values.round() - values).detach()
    return rounded


class FakeActivation(nn.Module):
    """u8, asymmetric, per tensor, in a range that is learned: ``log_factors (2,)`` of its lower and upper end."""

    ends: Tensor

    def __init__(self, start: Range) -> None:
        super().__init__()
        self.register_buffer("ends", torch.tensor([start.low, start.high]))
        self.log_factors = nn.Parameter(torch.zeros(2))

    def forward(self, values: Tensor) -> Tensor:
        low, high = self._learned()
        step = ((high - low) / LEVELS).clamp(min=_TINY)
        zero = _rounded(-low / step)
        codes = (_rounded(values / step) + zero).clamp(0, LEVELS)
        return (codes - zero) * step

    def range(self) -> Range:
        """As it was learned."""
        low, high = self._learned()
        return Range(low.item(), high.item())

    def _learned(self) -> tuple[Tensor, Tensor]:
        low, high = self.ends * self.log_factors.exp()
        return low, high


class FakeWeight:
    """s8, symmetric, one scale an output column, from the weights as they are."""

    def __init__(self, *, transposed: bool) -> None:
        self._axis = 1 if transposed else 0

    def __call__(self, weight: Tensor) -> Tensor:
        step = (weight.detach().abs().amax(dim=self._axis, keepdim=True) / _LARGEST_WEIGHT).clamp(min=_TINY)
        return _rounded(weight / step) * step


class FakeRows(nn.Module):
    """Rows of a table on a few levels each, whose ends lie where a quantized form of the table has them, relative to
    the smallest and the largest value of the row as it is.

    Args:
        rows: ``(vocabulary, dim)`` before quantization, and after it.
        levels: steps of each row, ``(vocabulary,)``.
    """

    inset: Tensor
    levels: Tensor

    def __init__(self, rows: Tensor, quantized: Tensor, levels: Tensor) -> None:
        super().__init__()
        (low, high), (first, last) = rows.aminmax(dim=1), quantized.aminmax(dim=1)
        inset = torch.stack([first - low, high - last], dim=1) / (high - low).clamp(min=_TINY)[:, None]
        self.register_buffer("inset", inset)
        self.register_buffer("levels", levels[:, None])

    def forward(self, rows: Tensor) -> Tensor:
        low, high = rows.detach().aminmax(dim=1, keepdim=True)
        width = high - low
        low, high = low + self.inset[:, :1] * width, high - self.inset[:, 1:] * width
        step = ((high - low) / self.levels).clamp(min=_TINY)
        quantized = ((rows - low) / step).round().clamp(min=0).minimum(self.levels) * step + low
        on_levels: Tensor = rows + (quantized - rows).detach()
        return on_levels

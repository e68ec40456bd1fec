"""The lookup in PyTorch: what a feature's value becomes for the dense part, with gradients to the table."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from rankine.models.inputs import TorchInput
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, MultiHotFeature, SequenceFeature

__all__ = ["look_up"]


def look_up(feature: Feature, value: TorchInput, table: Tensor | None) -> Tensor:
    """Float32 ``(rows, width)``, as :func:`rankine.models.lookup_plan.input_width` has it.

    Args:
        value: of the feature for every row, see :func:`rankine.models.inputs.torch_inputs`.
        table: ``(vocabulary, dim)``; None for a dense feature.
    """
    if table is None or isinstance(feature, DenseFeature):
        return cast(Tensor, value)
    match feature:
        case CategoricalFeature():
            return functional.embedding(cast(Tensor, value), table)
        case SequenceFeature(max_length=length):
            values, offsets, weights = cast(tuple[Tensor, Tensor, Tensor | None], value)
            rows = functional.embedding(values, table)
            return _padded(rows if weights is None else rows * weights[:, None], offsets, length)
        case MultiHotFeature(pooling=pooling):
            values, offsets, weights = cast(tuple[Tensor, Tensor, Tensor | None], value)
            mode = pooling if weights is None else "sum"
            pooled = functional.embedding_bag(
                values, table, offsets, mode=mode, per_sample_weights=weights, include_last_offset=True
            )
            if weights is not None and pooling == "mean":
                pooled = pooled / (offsets[1:] - offsets[:-1]).clamp(min=1)[:, None]
            return pooled


def _padded(rows: Tensor, offsets: Tensor, length: int) -> Tensor:
    """``(bags, length * columns + 1)``: the rows of each bag, zeros, and the number of rows."""
    counts = (offsets[1:] - offsets[:-1]).long()
    bag_of = torch.repeat_interleave(torch.arange(len(counts)), counts)
    at = bag_of * length + torch.arange(len(rows)) - offsets[:-1].long()[bag_of]
    padded = rows.new_zeros(len(counts) * length, rows.shape[1]).index_copy(0, at, rows)
    return torch.cat([padded.reshape(len(counts), length * rows.shape[1]), counts[:, None].to(rows.dtype)], dim=1)

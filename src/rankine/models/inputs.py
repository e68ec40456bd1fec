"""An encoded batch as the per-row tensors that a PyTorch ranking model takes."""

from __future__ import annotations

import numpy as np
import torch

from rankine.models.columns import Batch, Ragged
from rankine.models.schema import Feature, Schema

__all__ = ["TorchInput", "TorchInputs", "torch_inputs"]

TorchInput = torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
TorchInputs = dict[str, TorchInput]


def torch_inputs(batch: Batch, schema: Schema) -> TorchInputs:
    """Per feature, its value for every row.

    Returns:
        categorical: int32 ``(rows,)``; dense: float32 ``(rows, width)``; multi_hot and sequence: ``(values int32 (m,),
        offsets int32 (rows + 1,), weights float32 (m,) or None)``.
    """
    inputs: TorchInputs = {}
    for feature in schema.features:
        column, index = _column(batch, feature)
        taken = column if index is None else column.take(index) if isinstance(column, Ragged) else column[index]
        if isinstance(taken, Ragged):
            weights = None if taken.weights is None else torch.from_numpy(np.ascontiguousarray(taken.weights))
            inputs[feature.name] = (torch.from_numpy(taken.values), torch.from_numpy(taken.offsets), weights)
        else:
            inputs[feature.name] = torch.from_numpy(taken)
    return inputs


def _column(batch: Batch, feature: Feature) -> tuple[np.ndarray | Ragged, np.ndarray | None]:
    if feature.per_row:
        return batch.pair[feature.name], None
    if feature.side == "request":
        return batch.request[feature.name], batch.request_index
    return batch.item[feature.name], batch.item_index

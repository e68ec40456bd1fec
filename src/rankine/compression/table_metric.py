"""In which directions of a table's rows the logit moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.models.columns import Batch
from rankine.models.network import Network
from rankine.models.schema import DenseFeature, SequenceFeature
from rankine.models.transforms import table_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["table_metrics"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ROWS = 1024
_RIDGE = 1e-3
"""Share of the mean of a metric's diagonal that every direction gets: no direction is without meaning."""


def table_metrics(network: Network, batch: Batch) -> dict[str, Floats]:
    """For each table the mean over rows of ``g g^T``, with ``g`` the gradient of a logit with respect to what is read
    from the table: float64 ``(dim, dim)``, positive definite.

    Gradients of several tasks, several features and the values of a sequence add up.

    Raises:
        UsageError: an operator of the graph has no gradient here.
    """
    import torch

    from rankine.models.inputs import torch_inputs
    from rankine.models.torch_graph import GraphModel

    model = GraphModel(network).eval()
    found: dict[str, Floats] = {name: np.zeros((table.dim, table.dim)) for name, table in network.tables.items()}
    for start in range(0, batch.rows, _ROWS):
        inputs = torch_inputs(batch.select(slice(start, start + _ROWS)), network.schema)
        with torch.no_grad():
            parts = model.embed(inputs)
        parts = [part.clone().requires_grad_() for part in parts]
        for task in model.dense(parts).unbind(dim=1):
            gradients = torch.autograd.grad(task.sum(), parts, retain_graph=True, allow_unused=True)
            _add(found, network, parts, gradients)
    return {name: _ridged(products / batch.rows) for name, products in found.items()}


def _add(found: dict[str, Floats], network: Network, parts: list[Tensor], gradients: tuple[Tensor | None, ...]) -> None:
    for feature, part, gradient in zip(network.schema.features, parts, gradients, strict=True):
        if gradient is None or isinstance(feature, DenseFeature):
            continue
        table, by_value = table_of(feature), gradient.double().numpy()
        if isinstance(feature, SequenceFeature):
            by_value = by_value[:, :-1].reshape(len(part) * feature.max_length, -1)
            present = np.arange(feature.max_length) < part[:, -1:].detach().numpy()
            by_value = by_value[present.reshape(-1)]
        found[table] += by_value.T @ by_value


def _ridged(products: Floats) -> Floats:
    mean = float(np.trace(products)) / len(products)
    ridged: Floats = products + (_RIDGE * mean if mean > 0 else 1.0) * np.eye(len(products))
    return ridged

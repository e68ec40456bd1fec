"""In which directions of a value inside a model the logit moves: what a compression may change, and what it must keep.

With the gradient ``g`` of the logit with respect to a value, an error ``e`` of that value changes the logit by about
``g^T e``, in the mean square by ``trace(G cov(e))`` with ``G`` the mean of ``g g^T``. So ``G`` is the metric in which
errors count; what it says of one value and of another can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.errors import DataError
from rankine.models.columns import Batch
from rankine.models.network import Network
from rankine.models.schema import DenseFeature, SequenceFeature
from rankine.models.transforms import table_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Directions", "directions_of", "table_metrics", "value_metrics"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_ROWS = 1024
_RIDGE = 1e-3
"""Share of the mean of a metric's diagonal that every direction gets: no direction is without meaning."""
_LEAST = 1e-12
"""The same of a value that does not move the logit at all."""


@dataclass(frozen=True)
class Directions:
    """A value's directions in the order of how much they move the logit.

    Attributes:
        forward: ``(width, width)``; the first r columns give the r coordinates that are kept of a value ``(…, width)``.
        back: its inverse; the first r rows give the value back.
        losses: mean squared change of the logit from dropping a coordinate, ``(width,)``, descending.
    """

    forward: Floats
    back: Floats
    losses: Floats


def directions_of(covariance: Floats, metric: Floats) -> Directions:
    """Principal components in a metric: the first r lose least of all r directions.

    Args:
        covariance: of the value, ``(width, width)``.
        metric: positive definite, ``(width, width)``.
    """
    values, vectors = np.linalg.eigh(metric)
    root = vectors * np.sqrt(values)  # metric = root root^T
    losses, turned = np.linalg.eigh(root.T @ covariance @ root)
    turned = turned[:, ::-1]
    return Directions(root @ turned, turned.T @ np.linalg.inv(root), np.maximum(losses[::-1], 0))


def value_metrics(network: Network, batch: Batch, values: Sequence[str]) -> dict[str, Floats]:
    """The metric of the last axis of values inside the graph; float64 ``(width, width)`` each, positive definite.

    Gradients of several tasks add up, and so do those at several positions of a row.

    Raises:
        UsageError: an operator of the graph has no gradient here.
        DataError: a gradient is not finite.
    """
    found: dict[str, Floats] = {}
    for seen in _gradients(network, batch, values):
        for name, (_, gradient) in seen.items():
            _add(found, name, gradient.reshape(-1, gradient.shape[-1]))
    return {name: _ridged(name, found[name] / batch.rows) for name in values}


def table_metrics(network: Network, batch: Batch) -> dict[str, Floats]:
    """The metric of each table's rows; float64 ``(dim, dim)``, positive definite.

    Gradients of several tasks, several features and the values of a sequence add up.

    Raises:
        UsageError: an operator of the graph has no gradient here.
        DataError: a gradient is not finite.
    """
    features = {f.name: f for f in network.schema.features if not isinstance(f, DenseFeature)}
    found: dict[str, Floats] = {}
    for seen in _gradients(network, batch, list(features)):
        for name, (value, gradient) in seen.items():
            feature = features[name]
            if isinstance(feature, SequenceFeature):
                present = np.arange(feature.max_length) < value[:, -1:]
                gradient = gradient[:, :-1].reshape(*present.shape, -1)[present]
            _add(found, table_of(feature), gradient)
    return {name: _ridged(name, found[name] / batch.rows) for name in network.tables}


def _gradients(network: Network, batch: Batch, values: Sequence[str]) -> Iterator[Mapping[str, tuple[Floats, Floats]]]:
    """Values inside the graph and the gradients of a logit with respect to them, part by part and task by task."""
    import torch

    from rankine.models.inputs import torch_inputs
    from rankine.models.torch_graph import GraphModel

    model = GraphModel(network).eval()
    read: dict[str, Tensor] = {}
    changes: dict[str, Tensor] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        read[name], changes[name] = value.detach(), torch.zeros_like(value, requires_grad=True)
        return value + changes[name]

    model.taps.update({name: lambda value, name=name: tap(name, value) for name in values})  # type: ignore[misc]
    for start in range(0, batch.rows, _ROWS):
        logits = model(torch_inputs(batch.select(slice(start, start + _ROWS)), network.schema))
        for task in logits.unbind(dim=1):
            gradients = torch.autograd.grad(
                task.sum(), [changes[name] for name in values], retain_graph=True, materialize_grads=True
            )
            yield {name: (read[name].numpy(), one.numpy()) for name, one in zip(values, gradients, strict=True)}


def _add(found: dict[str, Floats], name: str, gradients: Floats) -> None:
    products = gradients.T.astype(np.float64) @ gradients.astype(np.float64)
    found[name] = found[name] + products if name in found else products


def _ridged(name: str, products: Floats) -> Floats:
    if not np.isfinite(products).all():
        raise DataError(
            "the gradient of the logit is not finite on the calibration rows",
            where=f"value '{name}'",
            hint="Look for a root, a logarithm or a division of zero in the model; or leave the pass out.",
        )
    mean = float(np.trace(products)) / len(products)
    ridged: Floats = products + max(_RIDGE * mean, _LEAST) * np.eye(len(products))
    return ridged

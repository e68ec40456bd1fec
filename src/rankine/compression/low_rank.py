"""Low-rank factorization: a layer reads a few directions of its input and spreads them, ``W = U V``.

The directions are chosen for what the layer reads, not for the matrix alone: ``U V`` minimizes
``||(X - mean) (W - U V)||`` over calibration rows ``X``. That is the projection of the layer's outputs onto their
principal components (``U = W Q``, ``V = Q^T`` with the first eigenvectors ``Q`` of the outputs' covariance), as in
Acharya et al., AAAI 2019 (arXiv 1811.00641) and Chen et al., "DRONE", NeurIPS 2021; the mean of the loss goes into the
bias. A DCN-v2 gets its low-rank cross layers by it (Wang et al., WWW 2021, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.compression.context import Context
from rankine.compression.fine_tune import fine_tune
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import LowRank
from rankine.compression.surgery import Linear, close_graph, gemm, linear_layers, open_graph, replace_nodes
from rankine.errors import DataError, UsageError
from rankine.models.macs import count_graph_macs
from rankine.models.network import Network, NetworkScorer

if TYPE_CHECKING:
    from rankine.models.rewrite.graph import Graph

__all__ = ["low_rank"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_BISECTIONS = 60


@dataclass(frozen=True)
class _Layer:
    """Linear layers one after the other, which are one matrix; mostly a single one.

    Attributes:
        parts: in the order in which they are applied.
        matrix, bias: of their product, ``(inputs, outputs)`` and ``(outputs,)``.
        macs: of one application as it is now.
    """

    parts: tuple[Linear, ...]
    matrix: Floats
    bias: Floats
    macs: int

    @property
    def name(self) -> str:
        return self.parts[-1].result

    @property
    def width(self) -> int:
        """What one rank costs: multiply-adds of an application."""
        return int(sum(self.matrix.shape))

    @property
    def largest(self) -> int:
        """The largest rank that costs less than the layer as it is."""
        rank: int = min((self.macs - 1) // self.width, *self.matrix.shape)
        return rank


@dataclass(frozen=True)
class _Read:
    """What a layer reads on calibration rows.

    Attributes:
        mean: of its input, ``(inputs,)``; zero where the layer can have no bias.
        directions: of its output, the columns ``(outputs, outputs)``, the one of most variance first.
        kept: share of the output's variance that the first r of them have, ``(outputs + 1,)`` from 0 to 1.
        positions: applications a row of the batch.
        dims: of its input.
    """

    mean: Floats
    directions: Floats
    kept: Floats
    positions: float
    dims: int


def low_rank(network: Network, settings: LowRank, context: Context) -> Outcome:
    """Factorize the layers for which it saves multiply-adds, then tune.

    Raises:
        UsageError: the graph has no linear layer that is large enough to be factorized.
        DataError: a layer's input is not finite on the calibration rows.
    """
    graph = open_graph(network.graph)
    layers = [layer for layer in _layers(graph) if layer.largest >= 1]
    if not layers:
        raise UsageError(
            "there is no linear layer that a lower rank would make smaller",
            where="recipe: low_rank",
            got=f"{len(linear_layers(graph))} linear layers",
            allowed="constant weights of two columns or more, which no other node reads",
            hint="Leave the pass out of the recipe.",
        )
    read = _reads(network, layers, context, settings.calibration_rows)
    total = count_graph_macs(network.graph)
    if settings.macs is None:
        ranks = [_of_energy(layer, seen, settings.energy) for layer, seen in zip(layers, read, strict=True)]
    else:
        ranks = _of_budget(layers, read, settings.macs * total, total)
    for layer, seen, rank in zip(layers, read, ranks, strict=True):
        if rank is not None:
            _factorize(graph, layer, seen, rank)
    chosen = [rank for rank in ranks if rank is not None]
    details: dict[str, Any] = {"layers": [_row(*one) for one in zip(layers, read, ranks, strict=True)]}
    if not chosen:
        return Outcome(network, "low rank: every layer needs its full rank", details)
    network = network.changed(graph=close_graph(graph, network.graph))
    text = f"{len(chosen)} of {len(layers)} layers of low rank ({', '.join(map(str, chosen))})"
    reached = count_graph_macs(network.graph)
    if settings.macs is not None and reached > settings.macs * total:
        text += f", {reached / total:.2f} of the multiply-adds: rank 1 everywhere is no less"
    if settings.tune is not None:
        network, result = fine_tune(network, settings.tune, context, task="tune low rank")
        text += f", tuned {result.best_epoch} epochs"
        details["fit"] = result.model_dump(mode="json")
    return Outcome(network, text, details)


def _layers(graph: Graph) -> Iterator[_Layer]:
    """The layers of a graph; those that directly follow each other are one."""
    linear = {layer.source: layer for layer in linear_layers(graph)}
    readers = graph.readers()
    alone = {name for name, nodes in readers.items() if len(nodes) == 1 and name not in graph.outputs}
    layers = linear_layers(graph)
    continued = {layer.result for layer in layers if layer.result in alone and layer.result in linear}
    for layer in layers:
        if layer.source in continued:
            continue
        parts = [layer]
        while parts[-1].result in continued:
            parts.append(linear[parts[-1].result])
        matrix, bias = np.eye(len(layer.matrix)), np.zeros(len(layer.matrix))
        for part in parts:
            matrix, bias = matrix @ part.matrix, bias @ part.matrix + (0 if part.bias is None else part.bias)
        yield _Layer(tuple(parts), matrix, bias, sum(part.matrix.size for part in parts))


def _reads(network: Network, layers: Sequence[_Layer], context: Context, rows: int) -> list[_Read]:
    """What each layer reads on calibration rows, in one run over them."""
    from rankine.models.onnx_session import feeds, tapped_session

    batch = context.calibration(rows)
    inputs = NetworkScorer(network).inputs(batch)
    sources = sorted({layer.parts[0].source for layer in layers})
    inside = [name for name in sources if name not in inputs]
    session = tapped_session(network.graph, inside)
    moments = {name: _Moments() for name in sources}
    for given in feeds(inputs):
        found = dict(zip(inside, session.run(inside, given), strict=True)) if inside else {}
        for name in sources:
            moments[name].add(given[name] if name in given else found[name])
    return [_read(layer, moments[layer.parts[0].source], batch.rows) for layer in layers]


class _Moments:
    """Sums over the vectors ``(…, width)`` of a value."""

    def __init__(self) -> None:
        self.vectors, self.dims = 0, 0
        self.total: Floats = np.zeros(0)
        self.products: Floats = np.zeros((0, 0))

    def add(self, values: Floats) -> None:
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        self.dims = values.ndim
        first = not self.vectors
        self.vectors += len(flat)
        self.total = flat.sum(axis=0) if first else self.total + flat.sum(axis=0)
        self.products = flat.T @ flat if first else self.products + flat.T @ flat


def _read(layer: _Layer, moments: _Moments, rows: int) -> _Read:
    if not np.isfinite(moments.products).all():
        raise DataError(
            "is not finite on the calibration rows",
            where=f"input '{layer.parts[0].source}' of layer '{layer.name}'",
            hint="Check the dense features of the data and the weights of the model for NaN and infinity.",
        )
    mean = moments.total / moments.vectors if moments.dims == 2 else np.zeros(len(layer.matrix))
    covariance = moments.products / moments.vectors - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(layer.matrix.T @ covariance @ layer.matrix)
    variances = np.maximum(variances[::-1], 0)
    total = variances.sum()
    shares = np.cumsum(variances) / total if total > 0 else np.ones(len(variances))
    return _Read(mean, directions[:, ::-1], np.append(0.0, shares), moments.vectors / rows, moments.dims)


def _of_energy(layer: _Layer, seen: _Read, energy: float) -> int | None:
    """The least rank that keeps this share of the variance; None where the layer is better left whole."""
    rank = max(1, int(np.searchsorted(seen.kept, energy - 1e-9)))
    return rank if rank <= layer.largest else None


def _of_budget(layers: Sequence[_Layer], read: Sequence[_Read], budget: float, total: float) -> list[int | None]:
    """Ranks of least loss over all layers whose multiply-adds are within a budget; rank 1 where it cannot be met.

    Every layer minimizes its loss plus a price times its multiply-adds; the price is found by bisection. Losses are
    convex in the rank, so that only the choice to leave a layer whole is not exact.
    """
    fixed = total - sum(layer.macs * seen.positions for layer, seen in zip(layers, read, strict=True))

    def at(price: float) -> list[int | None]:
        return [_at_price(layer, seen, price) for layer, seen in zip(layers, read, strict=True)]

    def cost(ranks: Sequence[int | None]) -> float:
        macs = [layer.macs if rank is None else rank * layer.width for layer, rank in zip(layers, ranks, strict=True)]
        return fixed + sum(one * seen.positions for one, seen in zip(macs, read, strict=True))

    low, high = 1e-15, 1.0
    if cost(at(low)) <= budget:
        return at(low)
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if cost(at(middle)) <= budget else (middle, high)
    return at(high)


def _at_price(layer: _Layer, seen: _Read, price: float) -> int | None:
    ranks = np.arange(1, layer.largest + 1)
    objective = 1 - seen.kept[ranks] + price * seen.positions * ranks * layer.width
    best = int(np.argmin(objective))
    return int(ranks[best]) if objective[best] < price * seen.positions * layer.macs else None


def _factorize(graph: Graph, layer: _Layer, seen: _Read, rank: int) -> None:
    """Replace a layer by two, with columns of like size on both sides."""
    directions = seen.directions[:, :rank]
    down, up = layer.matrix @ directions, directions.T
    size = np.maximum(np.linalg.norm(down, axis=0), 1e-12) ** 0.5
    down, up = down / size, up * size[:, None]
    bias = layer.bias + seen.mean @ (layer.matrix - down @ up)
    thin = f"{layer.name}.thin"
    first = gemm(graph, layer.parts[0].source, thin, down, None, name=f"{layer.name}.down", dims=seen.dims)
    second = gemm(graph, thin, layer.parts[-1].result, up, bias, name=f"{layer.name}.up", dims=seen.dims)
    replace_nodes(graph, [part.node for part in layer.parts], [first, second])


def _row(layer: _Layer, seen: _Read, rank: int | None) -> dict[str, Any]:
    """A layer in the report."""
    return {
        "layer": layer.name,
        "inputs": layer.matrix.shape[0],
        "outputs": layer.matrix.shape[1],
        "macs_per_row": round(layer.macs * seen.positions),
        "rank": rank,
        "kept_variance": 1.0 if rank is None else round(float(seen.kept[rank]), 6),
    }

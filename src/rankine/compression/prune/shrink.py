"""A network without what is removed, really smaller, and the proof that it computes what it should."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from rankine.compression.prune.plan import Kept, Plan, Unshrinkable, projections
from rankine.compression.prune.trace import Trace
from rankine.models.columns import Batch
from rankine.models.network import Network, NetworkScorer
from rankine.models.schema import DenseFeature, Feature, SequenceFeature
from rankine.models.tables import AnyTable, QuotientRemainderTable, Table
from rankine.models.transforms import table_of
from rankine.training.fit import predict_logits

__all__ = ["differs", "masked_logits", "shrink"]

_TOLERANCE = 1e-5
_ROWS_AT_ONCE = 2048
"""Attention over long histories takes a megabyte a row."""


def shrink(trace: Trace, removed: frozenset[int]) -> Network:
    """The network of ``trace`` without the parts that vanish with these roots.

    Raises:
        Unshrinkable: what is left does not fit together.
    """
    plan = Plan(trace, removed)
    features = [feature for feature in trace.network.schema.features if plan.is_needed(feature.name)]
    if not features:
        raise Unshrinkable("no feature is left")
    columns: dict[str, np.ndarray] = {}
    for feature in features:
        if not isinstance(feature, DenseFeature):
            table = table_of(feature)
            own = _columns_read(feature, projections(plan.needed(feature.name))[1], trace.network.tables[table].dim)
            columns[table] = own | columns.get(table, np.zeros_like(own))
    graph = plan.build({feature.name: _left(feature, columns) for feature in features})
    tables = {name: _narrowed(table, columns[name]) for name, table in trace.network.tables.items() if name in columns}
    return trace.network.changed(graph=graph.closed(trace.network.graph), tables=tables)


def differs(trace: Trace, removed: frozenset[int], smaller: Network, batch: Batch) -> float:
    """How far the smaller network is from the original in which everything that vanishes is zero wherever it is read:
    the largest ``|a - b| / (1e-5 * max(1, |b|))`` of the logits, so that up to 1 they are equal."""
    wanted, found = masked_logits(trace, removed, batch), NetworkScorer(smaller, threads=1).logits(batch)
    share = np.abs(found - wanted) / (_TOLERANCE * np.maximum(1.0, np.abs(wanted)))
    return float(np.max(share, initial=0.0)) if np.isfinite(share).all() else float("inf")


def masked_logits(trace: Trace, removed: frozenset[int], batch: Batch) -> np.ndarray:
    """Logits ``(rows, tasks)`` of the original network with every element that vanishes set to zero."""
    vanish = {name: trace.labels.gone(ids, removed) for name, ids in trace.ids.items()}
    taps = {name: partial(_zeroed, gone, trace.rows_axis[name]) for name, gone in vanish.items() if gone.any()}
    with trace.tapped(taps) as model:
        return predict_logits(model, batch, _ROWS_AT_ONCE)


def _zeroed(gone: np.ndarray, rows_axis: int | None, value: torch.Tensor) -> torch.Tensor:
    repeats = [value.shape[axis] // gone.shape[axis] if axis == rows_axis else 1 for axis in range(gone.ndim)]
    # Not a product: what vanishes may be infinite, such as the logarithm of zero.
    return torch.where(torch.from_numpy(np.tile(gone, repeats)), torch.zeros_like(value), value)


def _columns_read(feature: Feature, needed: np.ndarray, dim: int) -> np.ndarray:
    """Which columns of its table a feature is read in, ``(dim,)``, from those of the graph's input."""
    if isinstance(feature, SequenceFeature):
        places = np.asarray(needed[:-1].reshape(feature.max_length, dim).any(axis=0))
        return places if places.any() else np.arange(dim) == 0  # a table has a column at least
    return needed


def _left(feature: Feature, columns: dict[str, np.ndarray]) -> Kept:
    if isinstance(feature, DenseFeature):
        return np.ones(1, bool), np.ones(feature.width, bool)
    own = columns[table_of(feature)]
    if isinstance(feature, SequenceFeature):
        own = np.append(np.tile(own, feature.max_length), True)
    return np.ones(1, bool), own


def _narrowed(table: AnyTable, columns: np.ndarray) -> AnyTable:
    """A table with these columns; floats stay floats of their type, other forms become float32."""
    if columns.all():
        return table
    if isinstance(table, QuotientRemainderTable):
        parts = [_floats(part, columns) for part in (table.quotient, table.remainder)]
        return QuotientRemainderTable(parts[0], parts[1], table.count, table.combine)
    return _floats(table, columns)


def _floats(table: AnyTable, columns: np.ndarray) -> Table:
    if isinstance(table, Table) and table.scale is None:
        return Table(np.ascontiguousarray(table.rows[:, columns]))
    return Table(np.ascontiguousarray(table.dequantized()[:, columns]))

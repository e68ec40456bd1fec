"""Narrower embedding tables: the columns in which a table matters to the logit, and a linear map back.

With the covariance of a table's rows, weighted by reads, the columns that are kept are its principal components in the
model's own metric (:mod:`rankine.compression.logit_metric`). What a column loses is a squared change of the logit, so
that columns of different tables are compared by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.compression.context import Context
from rankine.compression.fine_tune import tuned
from rankine.compression.logit_metric import Directions, directions_of, table_metrics
from rankine.compression.narrow import is_read_by_layers, narrow_sequence, narrow_vector
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import ShrinkTables
from rankine.compression.surgery import widths_of
from rankine.compression.table_forms import reads_of_tables
from rankine.errors import UsageError
from rankine.models.network import Network
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, MultiHotFeature, SequenceFeature
from rankine.models.tables import Table
from rankine.models.transforms import table_of

if TYPE_CHECKING:
    from rankine.models.rewrite.graph import Graph

__all__ = ["shrink_tables"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_UNREAD = 0.1
"""Weight of a row that was never read, in reads: serving may meet it."""
_BLOCK_ROWS = 1 << 16
_WORTH = 4
"""A map back that is a node of its own must be paid for so many times by the bytes that it saves."""


@dataclass(frozen=True)
class _Candidate:
    """A table that can be narrower.

    Attributes:
        features: that read it.
        rows: ``(count, dim)``.
        mean: of the rows, as far as it can be kept apart; else zero.
        directions: of the rows around their mean.
        overhead_bytes: of a column in the maps that stay in the graph.
    """

    features: tuple[Feature, ...]
    rows: Floats
    mean: Floats
    directions: Directions
    overhead_bytes: int

    @property
    def losses(self) -> Floats:
        """Mean squared change of the logit from dropping a column, ``(dim,)``, descending."""
        return self.directions.losses

    @property
    def dim(self) -> int:
        return int(self.rows.shape[1])

    @property
    def column_bytes(self) -> int:
        return len(self.rows) * self.rows.itemsize

    def is_worth(self, columns: int) -> bool:
        """Whether tables of so many columns save bytes enough for the nodes that they cost."""
        saved = (self.dim - columns) * self.column_bytes
        return saved > 0 and saved >= _WORTH * self.overhead_bytes * columns


def shrink_tables(network: Network, settings: ShrinkTables, context: Context) -> Outcome:
    """Narrow the tables, then tune.

    Raises:
        UsageError: an operator of the graph has no gradient here, or no table can be narrower.
    """
    from rankine.models.rewrite.graph import Graph

    graph, widths = Graph.opened(network.graph), widths_of(network.graph)
    kept_whole = _kept_whole(network)
    names = network.tables.keys() - kept_whole.keys()
    if not names:
        raise UsageError(
            "no embedding table can be narrower",
            where="recipe: shrink_tables",
            got="; ".join(f"'{name}' {reason}" for name, reason in kept_whole.items()) or "no tables",
            allowed="float tables of two columns or more, of features that are not pooled by their maximum",
            hint="Leave the pass out of the recipe.",
        )
    candidates = _candidates(network, graph, widths, names, settings, context)
    table_bytes = _bytes_of(network)
    columns = _columns(candidates, settings, table_bytes)
    tables, merged = dict(network.tables), dict[str, bool]()
    for name, count in columns.items():
        tables[name], more = _narrow(graph, candidates[name], count, widths)
        merged |= more
    details = _details(candidates, columns, kept_whole, merged)
    if not columns:
        return Outcome(network, f"tables: none gets narrower{_missed(1.0, settings)}", details)
    network = network.changed(graph=graph.closed(network.graph), tables=tables)
    changes = ", ".join(f"{name} {candidates[name].dim} to {count}" for name, count in columns.items())
    text = f"narrower tables ({changes}){_missed(_bytes_of(network) / table_bytes, settings)}"
    return tuned(Outcome(network, text, details), settings.tune, context, task="tune narrower tables")


def _bytes_of(network: Network) -> int:
    return sum(table.size_bytes for table in network.tables.values())


def _missed(reached: float, settings: ShrinkTables) -> str:
    """What to add to the text where the tables cannot be as small as was asked."""
    if settings.bytes is None or reached <= settings.bytes:
        return ""
    return f", {reached:.2f} of their bytes: fewer columns save no more"


def _kept_whole(network: Network) -> dict[str, str]:
    """Tables that cannot be narrower, and why."""
    found = {}
    for name, table in network.tables.items():
        features = _features_of(network, name)
        if not isinstance(table, Table) or table.form not in ("float32", "float16"):
            found[name] = f"is {table.form}"
        elif table.dim < 2:
            found[name] = "has one column"
        elif any(isinstance(feature, MultiHotFeature) and feature.pooling == "max" for feature in features):
            found[name] = "is pooled by its maximum, which no linear map leaves as it is"
    return found


def _features_of(network: Network, table: str) -> tuple[Feature, ...]:
    return tuple(
        feature
        for feature in network.schema.features
        if not isinstance(feature, DenseFeature) and table_of(feature) == table
    )


def _candidates(
    network: Network,
    graph: Graph,
    widths: dict[str, int],
    names: Iterable[str],
    settings: ShrinkTables,
    context: Context,
) -> dict[str, _Candidate]:
    metrics = table_metrics(network, context.calibration(settings.calibration_rows))
    reads = reads_of_tables(
        context.train.batch, network.schema, {name: table.count for name, table in network.tables.items()}
    )
    found = {}
    for name in sorted(names):
        features = _features_of(network, name)
        alone = [f for f in features if isinstance(f, SequenceFeature) or not is_read_by_layers(graph, f.name, widths)]
        rows, weights = network.tables[name].dequantized(), reads[name] + _UNREAD
        # A mean apart needs that every read adds it exactly once: not so for bags, which may be empty, and sequences.
        has_mean = all(isinstance(feature, CategoricalFeature) for feature in features)
        mean = weights @ rows / weights.sum() if has_mean else np.zeros(rows.shape[1])
        directions = directions_of(_covariance(rows - mean.astype(np.float32), weights), metrics[name])
        found[name] = _Candidate(features, rows, mean, directions, len(alone) * rows.shape[1] * 4)
    return found


def _covariance(rows: Floats, weights: Floats) -> Floats:
    """Second moments of weighted rows, ``(dim, dim)``; in blocks, since tables may be large."""
    total: Floats = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS].astype(np.float64)
        total += (block * weights[start : start + _BLOCK_ROWS, None]).T @ block
    total /= weights.sum()
    return total


def _columns(candidates: Mapping[str, _Candidate], settings: ShrinkTables, table_bytes: int) -> dict[str, int]:
    """How many columns each table keeps that gets narrower.

    Columns go by what they change for their bytes, the least first. What saves too little for the nodes that it costs
    is left whole, and the rest chosen again.
    """
    worth = {name: one for name, one in candidates.items() if one.is_worth(1)}
    while True:
        columns = _chosen(worth, settings, table_bytes)
        narrower = {name: count for name, count in columns.items() if count < worth[name].dim}
        wrong = [name for name, count in narrower.items() if not worth[name].is_worth(count)]
        if not wrong:
            return narrower
        worth = {name: one for name, one in worth.items() if name not in wrong}


def _chosen(candidates: Mapping[str, _Candidate], settings: ShrinkTables, table_bytes: int) -> dict[str, int]:
    """Columns of each table: the last ones go as long as the budget says so; a table keeps one at least."""
    columns = {name: one.dim for name, one in candidates.items()}
    order = sorted(  # of a table the last columns first, also where they change nothing at all
        ((name, column) for name, one in candidates.items() for column in range(one.dim - 1, 0, -1)),
        key=lambda at: candidates[at[0]].losses[at[1]] / candidates[at[0]].column_bytes,
    )
    allowed = (1 - settings.energy) * sum(one.losses.sum() for one in candidates.values())
    lost, size = 0.0, float(table_bytes)
    for name, column in order:
        lost += float(candidates[name].losses[column])
        if settings.bytes is None and lost > allowed:
            break
        if settings.bytes is not None and size <= settings.bytes * table_bytes:
            break
        columns[name] -= 1
        size -= candidates[name].column_bytes
    return columns


def _narrow(graph: Graph, one: _Candidate, columns: int, widths: dict[str, int]) -> tuple[Table, dict[str, bool]]:
    """The narrower table, and for each of its features whether the map back is a part of the layers that read it."""
    scale, basis = _orthonormal(one.directions.back[:columns])
    to_columns = (one.directions.forward[:, :columns] @ scale).astype(np.float32)
    rows = (one.rows - one.mean.astype(np.float32)) @ to_columns
    merged = {}
    for feature in one.features:
        if isinstance(feature, SequenceFeature):
            narrow_sequence(graph, feature.name, basis, feature.max_length)
            merged[feature.name] = False
        else:
            merged[feature.name] = narrow_vector(graph, feature.name, basis, one.mean, widths)
    return Table(rows), merged


def _orthonormal(back: Floats) -> tuple[Floats, Floats]:
    """``back (d, dim)`` as a square matrix times orthonormal rows: the columns of a table keep the size of its rows, on
    which learning rates and the weight of norms depend."""
    columns, triangle = np.linalg.qr(back.T)
    return triangle.T, columns.T


def _details(
    candidates: Mapping[str, _Candidate],
    columns: Mapping[str, int],
    kept_whole: Mapping[str, str],
    merged: Mapping[str, bool],
) -> dict[str, Any]:
    total = sum(one.losses.sum() for one in candidates.values()) or 1.0
    tables = {
        name: {
            "columns_before": one.dim,
            "columns": columns.get(name, one.dim),
            "lost_share": round(float(one.losses[columns.get(name, one.dim) :].sum() / total), 6),
        }
        for name, one in candidates.items()
    }
    return {
        "tables": tables,
        "left_whole": dict(kept_whole),
        "map": {name: "merged" if is_merged else "in the graph" for name, is_merged in merged.items()},
    }

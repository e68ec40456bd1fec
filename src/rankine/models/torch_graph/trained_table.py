"""Embedding tables as PyTorch modules: one row an id, or put together from a row of each of two small tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rankine.models.inputs import TorchInput
from rankine.models.schema import CategoricalFeature, Feature
from rankine.models.tables import AnyTable, QuotientRemainderTable, Table
from rankine.models.torch_lookup import look_up

__all__ = ["ComposedTable", "PlainTable", "Tap", "TrainedTable", "trained_table"]

Tap = Callable[[Tensor], Tensor]
"""What a value of the graph, a weight or a table is replaced by while the graph runs: a gate, a fake quantization."""


class PlainTable(nn.Module):
    """One row an id, ``rows (vocabulary, dim)``; in whatever form it came, it is float32 from here on."""

    def __init__(self, table: AnyTable) -> None:
        super().__init__()
        self.rows = _parameter(table)

    def look_up(self, feature: Feature, value: TorchInput, tap: Tap | None = None) -> Tensor:
        """The feature's input of the graph, see :func:`rankine.models.torch_lookup.look_up`.

        Args:
            tap: what all rows are replaced by first.
        """
        return look_up(feature, value, self.rows if tap is None else tap(self.rows))

    def to_table(self) -> Table:
        return _table(self.rows)


class ComposedTable(nn.Module):
    """``quotient[id // m]`` times (or plus) ``remainder[id % m]``: only the rows that are looked up are put together,
    and both parts stay what is trained."""

    def __init__(self, table: QuotientRemainderTable) -> None:
        super().__init__()
        self.count, self.combine = table.count, table.combine
        self.quotient, self.remainder = _parameter(table.quotient), _parameter(table.remainder)

    def look_up(self, feature: Feature, value: TorchInput, tap: Tap | None = None) -> Tensor:
        """The feature's input of the graph, see :func:`rankine.models.torch_lookup.look_up`.

        Args:
            tap: what all rows of either part are replaced by first.
        """
        if isinstance(feature, CategoricalFeature):
            return self._rows_of(cast(Tensor, value), tap)
        ids, offsets, weights = cast(tuple[Tensor, Tensor, Tensor | None], value)
        at = torch.arange(len(ids), dtype=ids.dtype)
        return look_up(feature, (at, offsets, weights), self._rows_of(ids, tap))

    def _rows_of(self, ids: Tensor, tap: Tap | None) -> Tensor:
        """Float32 ``(n, dim)`` of the rows ``ids (n,)``."""
        parts = (self.quotient, self.remainder) if tap is None else (tap(self.quotient), tap(self.remainder))
        buckets = len(self.remainder)
        left = nn.functional.embedding(torch.div(ids, buckets, rounding_mode="floor"), parts[0])
        right = nn.functional.embedding(ids % buckets, parts[1])
        return left * right if self.combine == "product" else left + right

    def to_table(self) -> QuotientRemainderTable:
        return QuotientRemainderTable(_table(self.quotient), _table(self.remainder), self.count, self.combine)


TrainedTable = PlainTable | ComposedTable


def trained_table(table: AnyTable) -> TrainedTable:
    """A table as a module whose parameters are its rows, or its parts'."""
    return ComposedTable(table) if isinstance(table, QuotientRemainderTable) else PlainTable(table)


def _parameter(table: AnyTable) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(table.dequantized())))


def _table(rows: nn.Parameter) -> Table:
    return Table(rows.detach().numpy().copy())

"""Embedding tables as PyTorch modules: one row an id, or put together from a row of each of two small tables."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rankine.models.inputs import TorchInput
from rankine.models.schema import CategoricalFeature, Feature
from rankine.models.tables import AnyTable, QuotientRemainderTable, Table
from rankine.models.torch_lookup import look_up

__all__ = ["ComposedTable", "PlainTable", "TrainedTable", "trained_table"]


class PlainTable(nn.Module):
    """One row an id, ``rows (vocabulary, dim)``; in whatever form it came, it is float32 from here on."""

    def __init__(self, table: AnyTable) -> None:
        super().__init__()
        self.rows = _parameter(table)

    def look_up(self, feature: Feature, value: TorchInput) -> Tensor:
        """The feature's input of the graph, see :func:`rankine.models.torch_lookup.look_up`."""
        return look_up(feature, value, self.rows)

    def to_table(self) -> Table:
        return _table(self.rows)


class ComposedTable(nn.Module):
    """``quotient[id // m]`` times (or plus) ``remainder[id % m]``: only the rows that are looked up are put together,
    and both parts stay what is trained."""

    def __init__(self, table: QuotientRemainderTable) -> None:
        super().__init__()
        self.count, self.combine = table.count, table.combine
        self.quotient, self.remainder = _parameter(table.quotient), _parameter(table.remainder)

    def look_up(self, feature: Feature, value: TorchInput) -> Tensor:
        """The feature's input of the graph, see :func:`rankine.models.torch_lookup.look_up`."""
        if isinstance(feature, CategoricalFeature):
            return self._rows_of(cast(Tensor, value))
        ids, offsets, weights = cast(tuple[Tensor, Tensor, Tensor | None], value)
        at = torch.arange(len(ids), dtype=ids.dtype)
        return look_up(feature, (at, offsets, weights), self._rows_of(ids))

    def _rows_of(self, ids: Tensor) -> Tensor:
        """Float32 ``(n, dim)`` of the rows ``ids (n,)``."""
        buckets = len(self.remainder)
        left = nn.functional.embedding(torch.div(ids, buckets, rounding_mode="floor"), self.quotient)
        right = nn.functional.embedding(ids % buckets, self.remainder)
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

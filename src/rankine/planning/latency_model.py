"""Predicted latency of a graph: the sum of what its parts cost on an engine, from a table measured on this machine.

The table has linear layers on a grid of shapes and everything else by kind and size; between grid points the logarithm
of the time is interpolated over the logarithm of the shape, beyond them time grows with the work. Sums over operators
leave out how engines overlap and fuse, and what INT8 costs between layers; so layers are scaled, for each engine and
numeric form, by what whole graphs took. Predictions are for comparing candidates; the table says by how much whole
graphs were off. (Layer-wise tables as in "FBNet", Wu et al., CVPR 2019, arXiv 1812.03443.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rankine.compilation.operator_list import LinearLayer, Operator, operators_of
from rankine.errors import UsageError
from rankine.models.lookup_plan import plan_sources
from rankine.models.network import Network
from rankine.models.variant import Numeric
from rankine.planning.latency_table import EngineTable, LatencyTable

__all__ = ["LatencyModel", "monotone"]

_LEAST_MS = 1e-7
Floats = NDArray[np.float64]


class LatencyModel:
    """A :class:`~rankine.compression.context.CostModel` over a table."""

    def __init__(self, table: LatencyTable) -> None:
        self.table = table

    def on(self, engines: Sequence[str]) -> LatencyModel:
        """The model of these engines alone; of all where none of them was measured."""
        known = {name: engine for name, engine in self.table.engines.items() if name in engines}
        return LatencyModel(self.table.model_copy(update={"engines": known})) if known else self

    @property
    def digest(self) -> str:
        """Hash of the table's costs."""
        return self.table.digest

    def latency_ms(self, network: Network, rows: int) -> float:
        """Predicted milliseconds of one call on the fastest engine, lookup included."""
        return self.fastest(network, rows)[1]

    def fastest(self, network: Network, rows: int) -> tuple[str, float]:
        """The engine that is predicted to be fastest, and its milliseconds, lookup included."""
        by_engine = self.by_engine(network, rows)
        engine = min(by_engine, key=lambda name: (by_engine[name], name))
        return engine, by_engine[engine]

    def by_engine(self, network: Network, rows: int) -> dict[str, float]:
        """Predicted milliseconds of one call by engine, lookup included."""
        parts, lookup_ms = operators_of(network, rows), self.lookup_ms(network, rows)
        return {
            name: lookup_ms + self._call_ms(engine, rows) + sum(self._part_ms(name, engine, part) for part in parts)
            for name, engine in self.table.engines.items()
        }

    def layers_ms(self, network: Network, rows: int) -> dict[str, float]:
        """What of that are linear layers."""
        layers = [part for part in operators_of(network, rows) if isinstance(part, LinearLayer)]
        return {
            name: sum(self._part_ms(name, engine, layer) for layer in layers)
            for name, engine in self.table.engines.items()
        }

    def layer_ms(self, rows: int, width: int, columns: int, numeric: str) -> float:
        """Of one linear layer ``(rows, width) x (width, columns)`` on its fastest engine.

        Raises:
            UsageError: ``numeric`` was not measured.
        """
        grids = [self._grids[name, form] for name, form in self._grids if form == numeric]
        if not grids:
            allowed = ", ".join(sorted({form for _, form in self._grids}))
            raise UsageError("is not in the latency table", where="numeric", got=numeric, allowed=allowed)
        return min(self._interpolated(grid, rows, width, columns) for grid in grids)

    def lookup_ms(self, network: Network, rows: int) -> float:
        """Of the host's lookup of all features."""
        total = 0.0
        for source in plan_sources(network.schema, network.tables):
            form = "dense" if source.table is None else source.table.form
            # Tables of several forms cost what their smallest does: its values take most work.
            known = next((name for name in ("int4", "int8", "dense") if name in form), "float32")
            total += self.table.lookup[known].of(rows * source.width)
        return total

    def _call_ms(self, engine: EngineTable, rows: int) -> float:
        return float(np.interp(math.log(max(1, rows)), np.log(self.table.rows), engine.call_ms))

    def _part_ms(self, name: str, engine: EngineTable, part: LinearLayer | Operator) -> float:
        if isinstance(part, Operator):
            return engine.operators[part.kind].of(part.elements)
        return self._interpolated(self._grids[name, part.numeric], part.rows, part.width, part.columns)

    @cached_property
    def _grids(self) -> dict[tuple[str, Numeric], Floats]:
        """Milliseconds ``(rows, widths, widths)``, scaled, growing in every direction, by engine and numeric form."""
        return {
            (name, numeric): engine.scale.get(numeric, 1.0) * monotone(np.array(layers, np.float64))
            for name, engine in self.table.engines.items()
            for numeric, layers in engine.layers.items()
        }

    def _interpolated(self, grid: Floats, rows: int, width: int, columns: int) -> float:
        axes = (self.table.rows, self.table.widths, self.table.widths)
        shape = (rows, width, columns)
        beyond = math.prod(max(1.0, size / axis[-1]) for size, axis in zip(shape, axes, strict=True))
        logs = np.log(np.maximum(grid, _LEAST_MS))
        for size, axis in zip(shape, axes, strict=True):
            logs = _between(logs, axis, size)
        return beyond * math.exp(float(logs))


def _between(values: Floats, axis: Sequence[int], size: int) -> Floats:
    """``values`` along their first axis at ``size``, linear in its logarithm, the ends beyond."""
    if len(axis) == 1:
        return np.asarray(values[0])
    place = float(np.interp(math.log(max(1, size)), np.log(axis), np.arange(len(axis))))
    low = min(int(place), len(axis) - 2)
    share = place - low
    return np.asarray((1 - share) * values[low] + share * values[low + 1])


def monotone(values: Floats) -> Floats:
    """Times that never fall along any axis: half way between the smallest such above ``values`` and the largest below,
    so that one slow measurement does not lift everything that is larger."""
    above, below = values, values
    for axis in range(values.ndim):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return (above + below) / 2

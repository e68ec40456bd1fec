"""Predicted latency of a graph: the sum of what its parts cost on an engine, from a table measured on this machine.

The table has linear layers on a grid of shapes and everything else by kind and size; between grid points the logarithm
of the time is interpolated over the logarithm of the shape, beyond them time grows with the work. Sums over operators
leave out how engines overlap and fuse, and what INT8 costs between layers; so what was measured of whole graphs scales
the sum, for each engine and numeric form, and predictions are for comparing candidates. The table says by how much
whole graphs were off. (Layer-wise tables as in "FBNet", Wu et al., CVPR 2019, arXiv 1812.03443.)
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
            name: lookup_ms + self._graph_ms(name, engine, parts, rows) for name, engine in self.table.engines.items()
        }

    def layer_ms(self, rows: int, width: int, columns: int, numeric: str) -> float:
        """Of one linear layer ``(rows, width) x (width, columns)`` on its fastest engine.

        Raises:
            UsageError: ``numeric`` was not measured.
        """
        grids = {name: grid for (name, form), grid in self._grids.items() if form == numeric}
        if not grids:
            allowed = ", ".join(sorted({form for _, form in self._grids}))
            raise UsageError("is not in the latency table", where="numeric", got=numeric, allowed=allowed)
        return min(
            self._scale(name, numeric) * self._interpolated(grid, rows, width, columns) for name, grid in grids.items()
        )

    def lookup_ms(self, network: Network, rows: int) -> float:
        """Of the host's lookup of all features."""
        total = 0.0
        for source in plan_sources(network.schema, network.tables):
            form = "dense" if source.table is None else source.table.form
            # Tables of several forms cost what their smallest does: its values take most work.
            known = next((name for name in ("int4", "int8", "dense") if name in form), "float32")
            total += self.table.lookup[known].of(rows * source.width)
        return total

    def _graph_ms(self, name: str, engine: EngineTable, parts: Sequence[LinearLayer | Operator], rows: int) -> float:
        """Of a call without its lookup. The scale of a graph is that of its layers, weighted by their time: where some
        are INT8 it lies between."""
        layers = scaled = 0.0
        rest = self._call_ms(engine, rows)
        for part in parts:
            if isinstance(part, Operator):
                rest += engine.operators[part.kind].of(part.elements)
            else:
                layer = self._interpolated(self._grids[name, part.numeric], part.rows, part.width, part.columns)
                layers, scaled = layers + layer, scaled + self._scale(name, part.numeric) * layer
        return (layers + rest) * (scaled / layers if layers else 1.0)

    def _scale(self, name: str, numeric: str) -> float:
        return next((scale for form, scale in self.table.engines[name].scale.items() if form == numeric), 1.0)

    def _call_ms(self, engine: EngineTable, rows: int) -> float:
        return float(np.interp(math.log(max(1, rows)), np.log(self.table.rows), engine.call_ms))

    @cached_property
    def _grids(self) -> dict[tuple[str, Numeric], Floats]:
        """Milliseconds ``(rows, widths, widths)``, growing in every direction, by engine and numeric form."""
        return {
            (name, numeric): monotone(np.array(layers, np.float64))
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

"""Layers that INT8 makes faster on this machine."""

from __future__ import annotations

from dataclasses import replace

from rankine.compression.context import CostModel
from rankine.compression.quantize.layers import Layer
from rankine.compression.quantize.write import Calibrated
from rankine.errors import UsageError
from rankine.models.network import Network

__all__ = ["faster_layers"]

_ROWS = 512


def faster_layers(network: Network, calibrated: Calibrated, cost: CostModel | None) -> tuple[Layer, ...]:
    """Layers that take less time in INT8 than in FP32, for a request of 512 candidates. None where the graph as a whole
    does not: quantizing what layers read takes time too, and each was looked at on the engine that is best for it.

    Raises:
        UsageError: no cost was measured.
    """
    if cost is None:
        raise UsageError(
            "needs the measured cost of layers on this machine",
            where="quantize: only_where_faster",
            got="no cost model",
            hint="Measure one with 'rankine optimize --target latency=...', or leave 'only_where_faster' out.",
        )
    layers = tuple(layer for layer in calibrated.layers if _pays(layer, calibrated.positions[layer.source], cost))
    if not layers:
        return ()
    int8 = replace(network, graph=calibrated.in_int8(layers), numeric="int8")
    return layers if cost.latency_ms(int8, _ROWS) < cost.latency_ms(network, _ROWS) else ()


def _pays(layer: Layer, positions: int, cost: CostModel) -> bool:
    rows = _ROWS * positions
    fp32, int8 = (cost.layer_ms(rows, layer.width, layer.columns, numeric) for numeric in ("fp32", "int8"))
    return int8 < fp32

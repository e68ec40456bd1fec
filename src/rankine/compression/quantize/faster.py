"""Layers that INT8 would make slower on this machine."""

from __future__ import annotations

from rankine.compression.context import CostModel
from rankine.compression.quantize.layers import Layer
from rankine.compression.quantize.write import Calibrated
from rankine.errors import UsageError

__all__ = ["slower_layers"]

_ROWS = 512


def slower_layers(calibrated: Calibrated, cost: CostModel | None) -> tuple[Layer, ...]:
    """Layers that take no less time in INT8 than in FP32, for a request of 512 candidates.

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
    return tuple(layer for layer in calibrated.layers if not _pays(layer, calibrated.positions[layer.source], cost))


def _pays(layer: Layer, positions: int, cost: CostModel) -> bool:
    rows = _ROWS * positions
    fp32, int8 = (cost.layer_ms(rows, layer.width, layer.columns, numeric) for numeric in ("fp32", "int8"))
    return int8 < fp32

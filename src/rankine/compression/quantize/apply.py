"""The pass: a network in FP32 -> the same one with INT8 layers and small tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.quantize.tables import quantized_tables
from rankine.compression.quantize.write import calibrate
from rankine.compression.recipe import Quantize
from rankine.events import step
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network

__all__ = ["quantize"]


def quantize(network: Network, settings: Quantize, context: Context) -> Outcome:
    """The canonical QDQ form of ``network``, and its tables row by row."""
    sample = context.calibration(settings.calibration_rows)
    with step(context.emit, "quantize", total=None, unit="rows") as advance:
        advance(0, f"calibrating on {sample.rows} training rows")
        inputs = reference_lookup(network.schema, network.tables, sample, np.float32)
        calibrated = calibrate(network.graph, inputs, method=settings.method, equalize=settings.equalize)
        tables = quantized_tables(network, settings.tables, context)
    return Outcome(
        replace(network, graph=calibrated.in_int8(), tables=tables, numeric="int8", module=None),
        f"INT8, {settings.method} ranges of {sample.rows} rows, tables {settings.tables}",
    )

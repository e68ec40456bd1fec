"""An FP32 graph and rows to calibrate on -> the graph in the canonical INT8 form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.quantize.choose import Chosen, Method, choose_ranges
from rankine.compression.quantize.equalize import equalize_inputs
from rankine.compression.quantize.layers import Layer, find_layers, read_graph, write_graph
from rankine.compression.quantize.observe import observe
from rankine.compression.quantize.qdq import write_qdq

if TYPE_CHECKING:
    import onnx

__all__ = ["Calibrated", "calibrate", "quantize_graph"]


@dataclass(frozen=True)
class Calibrated:
    """An FP32 graph that is ready to be written in INT8.

    Attributes:
        model: FP32, its inputs equalized.
        layers: that can be INT8.
        chosen: range of each value that they read.
        positions: of each such value for one row of the batch, such as the length of a sequence.
        equalized: names of the layers whose inputs were scaled.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    chosen: Mapping[str, Chosen]
    positions: Mapping[str, int]
    equalized: tuple[str, ...]

    def in_int8(self, layers: tuple[Layer, ...] | None = None) -> onnx.ModelProto:
        """The QDQ graph in which ``layers``, or all that can be, are INT8."""
        ranges = {source: found.range for source, found in self.chosen.items()}
        return write_qdq(self.model, self.layers if layers is None else layers, ranges)


def calibrate(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, method: Method = "auto", equalize: bool = True
) -> Calibrated:
    """Find the layers that can be INT8 and the ranges of what they read.

    Args:
        model: FP32.
        inputs: float32 ``(rows, width)`` per graph input.
        method: see :func:`rankine.compression.quantize.choose.choose_ranges`.
        equalize: bring the input columns of a layer to like ranges first, where they differ much (see
            :mod:`rankine.compression.quantize.equalize`).

    Raises:
        UsageError: no layer can be INT8, or the graph is INT8 already.
        DataError: a value is not finite on these rows.
    """
    graph = read_graph(model)
    model = write_graph(graph, model)
    found = find_layers(graph)
    layers = found
    if equalize:
        model, layers = equalize_inputs(model, found, inputs)
    observed = observe(model, list(dict.fromkeys(layer.source for layer in layers)), inputs)
    chosen = choose_ranges(read_graph(model), layers, observed, method)
    scaled = tuple(after.name for before, after in zip(found, layers, strict=True) if before.source != after.source)
    positions = {source: values.positions for source, values in observed.items()}
    return Calibrated(model, layers, chosen, positions, scaled)


def quantize_graph(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, method: Method = "auto", equalize: bool = True
) -> onnx.ModelProto:
    """The canonical QDQ form of an FP32 graph, all layers in INT8 that can be; arguments and errors as
    :func:`calibrate`."""
    return calibrate(model, inputs, method=method, equalize=equalize).in_int8()

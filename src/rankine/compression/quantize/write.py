"""An FP32 graph and rows to calibrate on -> the graph in the canonical INT8 form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankine.compression.quantize.choose import Chosen, Method, choose_ranges
from rankine.compression.quantize.equalize import EQUALIZED, equalize_inputs, restore_inputs
from rankine.compression.quantize.layers import Layer, find_layers, read_graph
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
        original: the graph before inputs were equalized, with its layers; None where it has learned since.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    chosen: Mapping[str, Chosen]
    positions: Mapping[str, int]
    original: tuple[onnx.ModelProto, tuple[Layer, ...]] | None

    def in_int8(self, layers: Sequence[Layer] | None = None) -> onnx.ModelProto:
        """The QDQ graph in which ``layers``, or all that can be, are INT8."""
        wanted = self.layers if layers is None else layers
        ranges = {source: found.range for source, found in self.chosen.items()}
        return write_qdq(self._as_read_by(wanted), wanted, ranges)

    @property
    def equalized(self) -> tuple[str, ...]:
        """Names of the layers whose inputs were scaled."""
        return tuple(layer.name for layer in self.layers if layer.source.endswith(EQUALIZED))

    def _as_read_by(self, layers: Sequence[Layer]) -> onnx.ModelProto:
        """The graph without scaled values that none of ``layers`` reads."""
        read = {layer.source for layer in layers}
        idle = {layer.name for layer in self.layers if layer.name in self.equalized and layer.source not in read}
        if self.original is None or not idle:
            return self.model
        model, before = self.original
        return restore_inputs(self.model, model, [layer for layer in before if layer.name in idle])


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
    original, found = graph.closed(model), find_layers(graph)
    model, layers = equalize_inputs(original, found, inputs) if equalize else (original, found)
    observed = observe(model, list(dict.fromkeys(layer.source for layer in layers)), inputs)
    chosen = choose_ranges(read_graph(model), layers, observed, method)
    positions = {source: values.positions for source, values in observed.items()}
    return Calibrated(model, layers, chosen, positions, (original, found))


def quantize_graph(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, method: Method = "auto", equalize: bool = True
) -> onnx.ModelProto:
    """The canonical QDQ form of an FP32 graph, all layers in INT8 that can be; arguments and errors as
    :func:`calibrate`."""
    return calibrate(model, inputs, method=method, equalize=equalize).in_int8()

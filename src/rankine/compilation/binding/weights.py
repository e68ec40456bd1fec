"""Constant weights of linear layers, plain or rounded, of which rows are taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from rankine.compilation.binding.emitter import Emitter
from rankine.models.rewrite.graph import attribute

__all__ = ["PlainWeight", "RoundedWeight", "Weight", "read_weight"]


@dataclass(frozen=True, eq=False)
class PlainWeight:
    """A matrix ``(height, width)``."""

    emitter: Emitter
    matrix: np.ndarray

    @property
    def height(self) -> int:
        return len(self.matrix)

    def rows(self, places: np.ndarray) -> str:
        """The name of ``(len(places), width)``: these rows."""
        return self.emitter.constant(self.matrix[places], self.matrix.dtype)

    def mixed(self, pairs: list[tuple[float, np.ndarray, np.ndarray]], height: int) -> str:
        """The name of ``(height, width)``: a sum of rows ``places``, times a scale, at ``targets``."""
        total = np.zeros((height, self.matrix.shape[1]))
        for scale, targets, places in pairs:
            np.add.at(total, targets, scale * self.matrix[places].astype(np.float64))
        return self.emitter.constant(total, self.matrix.dtype)


@dataclass(frozen=True, eq=False)
class RoundedWeight:
    """Codes ``(height, width)`` behind a ``DequantizeLinear`` with a scale for all, or one a column: parts of it have
    the same scales, so their accumulators add up to those of the whole, exactly."""

    emitter: Emitter
    codes: np.ndarray
    scale: str
    zero: str

    @property
    def height(self) -> int:
        return len(self.codes)

    def rows(self, places: np.ndarray) -> str:
        codes = self.emitter.constant(self.codes[places], self.codes.dtype)
        inputs = [codes, self.scale, self.zero] if self.zero else [codes, self.scale]
        return self.emitter.emit("DequantizeLinear", inputs, {"axis": 1})


Weight = PlainWeight | RoundedWeight


def read_weight(emitter: Emitter, node: onnx.NodeProto) -> Weight | None:
    """The weight of a ``Gemm`` or ``MatMul`` as ``(height, width)``: what a row of the input is multiplied with; None
    where it is not constant, no matrix, or scaled."""
    if node.op_type == "Gemm" and (attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "transA", 0)):
        return None
    transposed = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
    name = emitter.aliases.get(node.input[1], node.input[1])
    values = emitter.graph.constants.get(name)
    if values is not None:
        return PlainWeight(emitter, values.T if transposed else values) if values.ndim == 2 else None
    maker = emitter.producers.get(name)
    if maker is None or maker.op_type != "DequantizeLinear" or attribute(maker, "block_size", 0):
        return None
    codes = emitter.graph.constants.get(maker.input[0])
    scale = emitter.graph.constants.get(maker.input[1])
    if codes is None or scale is None or codes.ndim != 2:
        return None
    column = 0 if transposed else 1
    if scale.size > 1 and attribute(maker, "axis", 1) % 2 != column:
        return None
    zero = maker.input[2] if len(maker.input) > 2 else ""
    return RoundedWeight(emitter, codes.T if transposed else codes, maker.input[1], zero)

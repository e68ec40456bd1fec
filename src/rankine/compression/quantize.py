"""INT8: tables row by row, and linear layers in the canonical QDQ form by ONNX Runtime's static quantizer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rankine.models.variant import Table

if TYPE_CHECKING:
    import onnx

__all__ = ["quantize_graph", "quantize_table"]

_LEVELS = 255
_CALIBRATION_BATCH_ROWS = 1024
_QUANTIZED_READERS = ("Gemm", "MatMul", "QuantizeLinear", "DequantizeLinear")


def quantize_table(table: Table, form: Literal["int8", "float16", "float32"]) -> Table:
    """Rows as uint8 with a scale and a bias each (as in FBGEMM: ``value = q * scale + bias``), or as floats."""
    rows = table.dequantized()
    if form != "int8":
        return Table(rows.astype(form))
    low, high = rows.min(axis=1), rows.max(axis=1)
    scale = ((high - low) / _LEVELS).astype(np.float32)
    safe = np.where(scale > 0, scale, 1.0).astype(np.float32)
    quantized = np.clip(np.rint((rows - low[:, None]) / safe[:, None]), 0, _LEVELS).astype(np.uint8)
    return Table(quantized, safe, low.astype(np.float32))


def quantize_graph(
    graph: Path, inputs: Mapping[str, np.ndarray], out: Path, *, method: Literal["minmax", "percentile", "entropy"]
) -> None:
    """Write the canonical QDQ form of an FP32 graph.

    Linear layers get u8 activations (asymmetric, per tensor, calibrated on ``inputs``) and s8 weights (symmetric,
    per channel). What a linear layer gives is quantized only where another one reads it. The head keeps FP32.

    Args:
        graph: ONNX file, FP32.
        inputs: float32 ``(rows, width)`` per graph input.
        out: ONNX file to write.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    model = onnx.load(graph)
    with tempfile.TemporaryDirectory(prefix="rankine-quantize-") as scratch, _quiet_quantizer():
        source = Path(scratch) / "graph.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            out,
            _Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Gemm", "MatMul"],
            nodes_to_exclude=_heads(model),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[method],
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                "CalibTensorRangeSymmetric": False,
            },
        )
    quantized = onnx.load(out)
    _leave_elementwise_in_float(quantized)
    del quantized.graph.value_info[:]
    onnx.checker.check_model(quantized)
    onnx.save(quantized, out)


def _leave_elementwise_in_float(model: onnx.ModelProto) -> None:
    """Let only linear layers read quantized values.

    The quantizer hands the dequantized tensor to *every* reader, also to the products and sums of a cross layer, where
    its rounding adds up from layer to layer; read from the tensor before quantization, the logits' error is a quarter.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type in _QUANTIZED_READERS:
            continue
        for position, name in enumerate(node.input):
            source = producers.get(name)
            if source is not None and source.op_type == "DequantizeLinear" and source.input[0] in producers:
                node.input[position] = producers[source.input[0]].input[0]


class _Calibration:
    """Feeds the calibration rows in batches, as ONNX Runtime's quantizer asks for them."""

    def __init__(self, inputs: Mapping[str, np.ndarray]) -> None:
        rows = len(next(iter(inputs.values())))
        self._batches = iter(
            {name: values[start : start + _CALIBRATION_BATCH_ROWS] for name, values in inputs.items()}
            for start in range(0, rows, _CALIBRATION_BATCH_ROWS)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _heads(model: onnx.ModelProto) -> list[str]:
    """Names of the linear layers that write a graph output."""
    outputs = {output.name for output in model.graph.output}
    return [node.name for node in model.graph.node if outputs & set(node.output)]


@contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """The quantizer advises a pre-processing that was done here already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

"""INT8: tables row by row, and linear layers in the canonical QDQ form by ONNX Runtime's static quantizer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rankine.compression.context import Context
from rankine.compression.equalize import equalize_inputs
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import Quantize
from rankine.compression.table_forms import quantize_table
from rankine.events import step
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network

if TYPE_CHECKING:
    import onnx

__all__ = ["quantize", "quantize_graph", "quantize_table"]

_CALIBRATION_BATCH_ROWS = 1024
_LINEAR = ("Gemm", "MatMul")
_QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")
_FEWEST_COLUMNS = 8
"""A narrower layer, such as a gate or an attention weight, does not fill a vector register: INT8 would cost accuracy
and save nothing."""


def quantize(network: Network, settings: Quantize, context: Context) -> Outcome:
    """The canonical QDQ form of ``network``, and its tables row by row."""
    import onnx

    method = "minmax" if settings.method in ("auto", "mse") else settings.method
    sample = context.calibration(settings.calibration_rows)
    with step(context.emit, "quantize", total=None, unit="rows") as advance, tempfile.TemporaryDirectory() as scratch:
        tables = {name: quantize_table(table, settings.tables) for name, table in network.tables.items()}
        advance(0, f"calibrating on {sample.rows} training rows")
        inputs = reference_lookup(network.schema, network.tables, sample, np.float32)
        source, out = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(network.graph, source)
        quantize_graph(source, inputs, out, method=method, equalize=settings.equalize)
        graph = onnx.load(out)
    return Outcome(
        replace(network, graph=graph, tables=tables, numeric="int8", module=None),
        f"INT8, {settings.method} ranges of {sample.rows} rows, tables {settings.tables}",
    )


def quantize_graph(
    graph: Path,
    inputs: Mapping[str, np.ndarray],
    out: Path,
    *,
    method: Literal["minmax", "percentile", "entropy"],
    equalize: bool = True,
) -> None:
    """Write the canonical QDQ form of an FP32 graph.

    Linear layers, which are products with constant weights, get u8 activations (asymmetric, per tensor, calibrated on
    ``inputs``) and s8 weights (symmetric, per channel). What a linear layer gives is quantized only where another one
    reads it. FP32 stay the head (the last linear layer before each logit), products of two activations (dot
    interactions, attention), and layers of fewer than 8 columns.

    Args:
        graph: ONNX file, FP32.
        inputs: float32 ``(rows, width)`` per graph input.
        out: ONNX file to write.
        method: of calibration.
        equalize: bring the input columns of a layer to like ranges first, where they differ much (see
            :mod:`rankine.compression.equalize`).
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    model = onnx.load(graph)
    _constants_as_initializers(model)
    _name_linear_layers(model)
    kept = _kept_in_float(model)
    if equalize:
        linear = [node.name for node in model.graph.node if node.op_type in _LINEAR and node.name not in kept]
        equalize_inputs(model, linear, inputs)
    with tempfile.TemporaryDirectory(prefix="rankine-quantize-") as scratch, _quiet_quantizer():
        source = Path(scratch) / "graph.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            out,
            _Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_LINEAR),
            nodes_to_exclude=sorted(kept),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[method],
            extra_options={
                "OpTypesToExcludeOutputQuantization": list(_LINEAR),
                "CalibTensorRangeSymmetric": False,
            },
        )
    quantized = onnx.load(out)
    _leave_others_in_float(quantized, kept)
    del quantized.graph.value_info[:]
    onnx.checker.check_model(quantized)
    onnx.save(quantized, out)


def _leave_others_in_float(model: onnx.ModelProto, kept: set[str]) -> None:
    """Let only the quantized linear layers, all but those in ``kept``, read quantized values.

    The quantizer hands the dequantized tensor to *every* reader, also to the products and sums of a cross layer, where
    its rounding adds up from layer to layer; read from the tensor before quantization, the logits' error is a quarter.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type in _QUANTIZATION or (node.op_type in _LINEAR and node.name not in kept):
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


def _constants_as_initializers(model: onnx.ModelProto) -> None:
    """Weights may also be written as ``Constant`` nodes, which the quantizer would take for activations."""
    from onnx import numpy_helper

    found = {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    if found:
        others = [node for node in model.graph.node if not set(node.output) & set(found)]
        constants = [numpy_helper.from_array(numpy_helper.to_array(tensor), name) for name, tensor in found.items()]
        del model.graph.node[:]
        model.graph.node.extend(others)
        model.graph.initializer.extend(constants)


def _name_linear_layers(model: onnx.ModelProto) -> None:
    """Give a name of its own to every linear layer: layers are excluded by name, and names are optional in ONNX."""
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _LINEAR and (not node.name or node.name in taken):
            node.name = f"rankine.linear.{node.output[0]}"
        taken.add(node.name)


def _kept_in_float(model: onnx.ModelProto) -> set[str]:
    """Names of the ``Gemm`` and ``MatMul`` nodes that are not quantized."""
    weights = {constant.name: constant.dims for constant in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in _LINEAR]
    linear = {node.name for node in products if _is_linear_layer(node, weights)}
    narrow = {node.name for node in products if node.name in linear and _columns(node, weights) < _FEWEST_COLUMNS}
    return {node.name for node in products} - linear | narrow | _heads(model, linear)


def _is_linear_layer(node: onnx.NodeProto, weights: Mapping[str, Sequence[int]]) -> bool:
    """Whether the node multiplies an activation with a constant matrix."""
    first, second = node.input[:2]
    return first not in weights and len(weights.get(second, ())) == 2


def _columns(node: onnx.NodeProto, weights: Mapping[str, Sequence[int]]) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return weights[node.input[1]][0 if transposed else 1]


def _heads(model: onnx.ModelProto, linear: set[str]) -> set[str]:
    """Names of the last linear layers: those from which a graph output is reached through no other one."""
    producers = {output: node for node in model.graph.node for output in node.output}
    heads: set[str] = set()
    seen: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in producers:
            continue
        seen.add(value)
        node = producers[value]
        if node.name in linear and node.op_type in _LINEAR:
            heads.add(node.name)
        else:
            waiting.extend(node.input)
    return heads


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

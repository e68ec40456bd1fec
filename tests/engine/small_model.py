"""A small model of every kind of feature on every side, as an ONNX graph made by hand, with batches for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rankine.compilation.conformance.zoo import features
from rankine.compression.quantize import quantize_graph
from rankine.compression.table_forms import quantize_table
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.lookup_plan import input_width
from rankine.models.lookup_reference import reference_lookup
from rankine.models.schema import (
    CategoricalFeature,
    DenseFeature,
    Schema,
)
from rankine.models.transforms import table_of
from rankine.models.variant import Model, Numeric, Table

TASKS = 2
_DIM = 8
HISTORY_LENGTH = 5  # of the features
_TABLES = {"user": (50, "float32"), "item": (400, "int8"), "genre": (20, "int4"), "tag": (30, "float16")}


def small_schema(*, history: bool = False) -> Schema:
    """Categorical, multi-hot and dense features of the request, the item (static and live) and the pair.

    Args:
        history: whether a sequence is the last of them, which shares its table with the item.
    """
    return Schema(features=features() if history else features()[:-1], item_id="item")


@cache
def small_tables() -> dict[str, Table]:
    """One table of every row type."""
    random = np.random.default_rng(1)
    floats = {name: Table(random.normal(size=(rows, _DIM)).astype(np.float32)) for name, (rows, _) in _TABLES.items()}
    return {name: quantize_table(table, _TABLES[name][1]) for name, table in floats.items()}


def small_batch(rows: int, *, seed: int = 0) -> Batch:
    """``rows`` random rows of a few requests over a catalog of 37 items; lists may be empty, and some are weighted."""
    random = np.random.default_rng([rows, seed])
    requests, items = 1 + rows // 100, 37
    counts = {"request": requests, "item": items, "pair": rows}
    sides: dict[str, dict[str, Column]] = {"request": {}, "item": {}, "pair": {}}
    for feature in small_schema(history=True).features:
        side = "pair" if feature.per_row else feature.side
        if isinstance(feature, DenseFeature):
            sides[side][feature.name] = random.normal(size=(counts[side], feature.width)).astype(np.float32)
            continue
        vocabulary = _TABLES[table_of(feature)][0]
        if isinstance(feature, CategoricalFeature):
            sides[side][feature.name] = random.integers(0, vocabulary, counts[side], dtype=np.int32)
        else:
            lengths = random.integers(0, HISTORY_LENGTH + 1, counts[side])
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            values = random.integers(0, vocabulary, offsets[-1], dtype=np.int32)
            weights = random.random(len(values), dtype=np.float32) if feature.name == "tag" else None
            sides[side][feature.name] = Ragged(values, offsets, weights)
    return Batch(
        **sides,
        request_index=np.sort(random.integers(0, requests, rows, dtype=np.int32)),
        item_index=random.integers(0, items, rows, dtype=np.int32),
    )


def small_model(folder: Path, numeric: Numeric = "fp32", *, history: bool = False) -> Model:
    """The model with its graph written into ``folder``; INT8 in the canonical form, calibrated on random rows."""
    schema, tables = small_schema(history=history), small_tables()
    graph = folder / "fp32.onnx"
    onnx.save(small_graph(history=history), graph)
    model = Model(name="small", schema=schema, graph=graph, tables=tables)
    if numeric == "fp32":
        return model
    inputs = reference_lookup(schema, tables, small_batch(2000, seed=9), np.float32)
    onnx.save(quantize_graph(onnx.load(graph), inputs), folder / "int8.onnx")
    return replace(model, graph=folder / "int8.onnx", numeric="int8")


def small_graph(*, history: bool = False) -> onnx.ModelProto:
    """One cross layer beside a two-layer MLP, then a head of two tasks: the operators of a DCN-v2.

    Of the sequence, the mean of its embeddings enters.
    """
    features = small_schema(history=history).features
    names = [feature.name for feature in features]
    widths = [input_width(feature, _DIM) for feature in features]
    pooled = ["history.mean" if name == "history" else name for name in names]
    width = sum(_DIM if name == "history" else columns for name, columns in zip(names, widths, strict=True))
    nodes = [
        *(_history_nodes() if history else []),
        helper.make_node("Concat", pooled, ["x0"], axis=1),
        helper.make_node("Gemm", ["x0", "cross.w", "cross.b"], ["crossed"], name="cross", transB=1),
        helper.make_node("Mul", ["x0", "crossed"], ["product"]),
        helper.make_node("Add", ["product", "x0"], ["x1"]),
        helper.make_node("MatMul", ["x0", "deep0.w"], ["deep0"], name="deep0"),
        helper.make_node("Add", ["deep0", "deep0.b"], ["deep0.sum"]),
        helper.make_node("Relu", ["deep0.sum"], ["deep0.out"]),
        helper.make_node("Gemm", ["deep0.out", "deep1.w", "deep1.b"], ["deep1"], name="deep1", transB=1),
        helper.make_node("Relu", ["deep1"], ["deep1.out"]),
        helper.make_node("Concat", ["x1", "deep1.out"], ["joined"], axis=-1),
        helper.make_node("Gemm", ["joined", "head.w", "head.b"], ["logits"], name="head", transB=1),
    ]
    shapes = {
        "cross.w": (width, width),
        "cross.b": (width,),
        "deep0.w": (width, 32),
        "deep0.b": (32,),
        "deep1.w": (16, 32),
        "deep1.b": (16,),
        "head.w": (TASKS, width + 16),
        "head.b": (TASKS,),
    }
    random = np.random.default_rng(2)
    weights = [
        numpy_helper.from_array((random.normal(size=shape) / np.sqrt(max(shape))).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    if history:
        weights += [numpy_helper.from_array(values, name) for name, values in _history_constants().items()]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", columns])
        for name, columns in zip(names, widths, strict=True)
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", TASKS])
    graph = helper.make_graph(nodes, "small", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _history_nodes() -> list[onnx.NodeProto]:
    """``history.mean (rows, dim)`` of the padded input ``history``, by its mask and its number of values."""
    return [
        helper.make_node("Slice", ["history", "at.0", "at.count", "at.1"], ["history.values"]),
        helper.make_node("Slice", ["history", "at.count", "at.end", "at.1"], ["history.count"]),
        helper.make_node("Reshape", ["history.values", "history.shape"], ["history.rows"]),
        helper.make_node("Less", ["history.positions", "history.count"], ["history.inside"]),
        helper.make_node("Cast", ["history.inside"], ["history.mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["history.mask", "at.2"], ["history.column"]),
        helper.make_node("Mul", ["history.rows", "history.column"], ["history.masked"]),
        helper.make_node("ReduceSum", ["history.masked", "at.1"], ["history.sum"], keepdims=0),
        helper.make_node("Max", ["history.count", "one"], ["history.divisor"]),
        helper.make_node("Div", ["history.sum", "history.divisor"], ["history.mean"]),
    ]


def _history_constants() -> dict[str, np.ndarray]:
    at = {"at.0": 0, "at.1": 1, "at.2": 2, "at.count": HISTORY_LENGTH * _DIM, "at.end": HISTORY_LENGTH * _DIM + 1}
    return {
        **{name: np.array([value], np.int64) for name, value in at.items()},
        "history.shape": np.array([-1, HISTORY_LENGTH, _DIM], np.int64),
        "history.positions": np.arange(HISTORY_LENGTH, dtype=np.float32),
        "one": np.ones((), np.float32),
    }

"""Graphs and schemas for the tests of the rewrite, and what runs a rewritten model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from rankine.models.call import Argument, Call, PackedColumn
from rankine.models.columns import Batch
from rankine.models.lookup_reference import reference_lookup
from rankine.models.rewrite import Rewritten
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, MultiHotFeature, Schema, SequenceFeature
from rankine.models.variant import Table

__all__ = [
    "categorical",
    "dense",
    "graph_of",
    "logits_of",
    "multi_hot",
    "operators",
    "packed",
    "schema_of",
    "sequence",
    "weight",
]


def categorical(name: str, size: int, **options: Any) -> CategoricalFeature:
    return CategoricalFeature(name=name, side="request", encoding=Identity(size=size), **options)


def dense(name: str, width: int = 1) -> DenseFeature:
    return DenseFeature(name=name, side="item", width=width)


def sequence(name: str, size: int, length: int, **options: Any) -> SequenceFeature:
    return SequenceFeature(name=name, side="request", encoding=Identity(size=size), max_length=length, **options)


def multi_hot(name: str, size: int, **options: Any) -> MultiHotFeature:
    return MultiHotFeature(name=name, side="item", encoding=Identity(size=size), **options)


def schema_of(features: list[Any], arguments: list[Argument], **options: Any) -> Schema:
    return Schema(features=tuple(features), item_id="item", call=Call(arguments=tuple(arguments)), **options)


def packed(name: str, *columns: str | PackedColumn, dtype: Any = "int64") -> Argument:
    found = tuple(PackedColumn(feature=column) if isinstance(column, str) else column for column in columns)
    return Argument(name=name, form="packed", columns=found, dtype=dtype)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def graph_of(signature: str, body: str, opset: int = 21, **constants: np.ndarray) -> onnx.ModelProto:
    """A model in ONNX's text form; constants become initializers."""
    imports = f'"" : {opset}, "rankine" : 1'
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {signature} {{ {body} }}")
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    return model


def logits_of(rewritten: Rewritten, schema: Schema, batch: Batch) -> np.ndarray:
    """What ONNX Runtime computes from the looked-up features, ``(rows, tasks)``."""
    tables = {name: Table(rows) for name, rows in rewritten.tables.items()}
    inputs = reference_lookup(schema, tables, batch, np.float32)
    session = onnxruntime.InferenceSession(rewritten.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], dict(inputs))
    return np.asarray(logits)


def operators(rewritten: Rewritten) -> list[str]:
    return [node.op_type for node in rewritten.graph.graph.node]

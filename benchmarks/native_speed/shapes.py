"""Reference models of full shapes with random weights, in FP32 and canonical INT8, and rows to run them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from families import FAMILIES, schema_of
from families_quality import FAMILIES as TRAINED

from native_speed.race import Draw
from native_speed.record import BIG
from rankine.compression.quantize import quantize_graph
from rankine.models.checkpoint import save_checkpoint
from rankine.models.columns import Batch, Columns, row_count, take
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import network_of
from rankine.models.random_rows import random_batch
from rankine.models.schema import CategoricalFeature, Identity, Schema, SequenceFeature
from rankine.models.transforms import table_of
from rankine.models.variant import Model
from rankine.models.zoo import build_model

ITEMS, REQUESTS, POOL = 20_000, 64, 16_384
"""Items and requests to draw from, and how many draws of an item are made ahead."""
_CALIBRATION_ROWS = 2048


@dataclass(frozen=True)
class Shape:
    """A model to be: its features, and the settings of its architecture."""

    name: str
    schema: Schema
    settings: Mapping[str, Any]

    @property
    def tasks(self) -> int:
        return len(self.schema.tasks)

    @property
    def table_rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {
            table_of(one): one.encoding.size
            for one in self.schema.features
            if isinstance(one, CategoricalFeature | SequenceFeature) and isinstance(one.encoding, Identity)
        }


@dataclass(frozen=True)
class Forms:
    """A model in its forms, all with tables in FP32, and what it was calibrated on.

    Attributes:
        inputs: float32 ``(rows, width)`` by feature.
    """

    shape: Shape
    fp32: Model
    int8: Model
    inputs: Mapping[str, np.ndarray]


def big() -> Shape:
    """DCN-v2 (big): 13 dense and 26 categorical fields, 3 full cross layers beside an MLP of 1024-512-256."""
    settings = {"architecture": "dcn_v2", "structure": "parallel", "cross_layers": 3, "hidden": [1024, 512, 256]}
    return Shape(BIG, schema_of("dcn_v2"), settings)


def families() -> list[Shape]:
    """The other families at full shapes, and with the layers of the baselines that compression begins with."""
    names = ("dlrm", "deepfm", "wide_deep", "din", "mmoe")
    found = [Shape(name, schema_of(name), FAMILIES[name]) for name in names]
    smaller = [Shape(f"{name}, trained size", schema_of(name), TRAINED[name].model) for name in names]
    return found + [one for one in smaller if one.settings != FAMILIES[one.name.split(",")[0]]]


def make_forms(shape: Shape, folder: Path) -> Forms:
    """Build, export and quantize into ``folder``."""
    torch.manual_seed(0)
    module = build_model(shape.schema, shape.table_rows, shape.settings).eval()
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.3)  # type: ignore[arg-type]
    save_checkpoint(module, module.config, folder / "checkpoint")
    network = network_of(module)
    rows = random_batch(shape.schema, shape.table_rows, _CALIBRATION_ROWS, seed=1)
    inputs = reference_lookup(shape.schema, network.tables, rows, np.float32)
    onnx.save(network.graph, folder / "fp32.onnx")
    onnx.save(quantize_graph(network.graph, inputs), folder / "int8.onnx")
    fp32 = Model(shape.name, shape.schema, folder / "fp32.onnx", network.tables, "fp32", folder / "checkpoint")
    int8 = replace(fp32, graph=folder / "int8.onnx", numeric="int8", checkpoint=None)
    return Forms(shape, fp32, int8, inputs)


def columns_of(shape: Shape) -> tuple[Columns, Columns]:
    """Requests and items to draw from."""
    batch = random_batch(shape.schema, shape.table_rows, ITEMS, seed=2)
    return take(batch.request, np.arange(REQUESTS)), batch.item


def draw_from(requests: Columns, items: Columns, pool: np.ndarray, rows: int, pairs: Columns | None = None) -> Draw:
    """Batches of one request and ``rows`` items.

    Args:
        pool: ``(n,)`` int32, the items in the order in which they are drawn; ``n`` is a multiple of ``rows``.
        pairs: columns ``(n,)`` that differ per request and candidate, in the order of ``pool``.
    """
    each = [take(requests, np.array([number])) for number in range(row_count(requests))]
    shared = np.zeros(rows, np.int32)

    def draw(number: int) -> Batch:
        start = number % (len(pool) // rows) * rows
        pair = take(pairs, np.arange(start, start + rows)) if pairs else {}
        return Batch(each[number % len(each)], items, pair, shared, pool[start : start + rows])

    return draw


def uniform_pool(items: int) -> np.ndarray:
    """Item numbers, drawn uniformly: int32 ``(POOL,)``."""
    return np.random.default_rng(4).integers(0, items, POOL, np.int32)


def verification_batch(requests: Columns, items: Columns, rows: int = 64) -> Batch:
    """Rows on which a side is held to the reference before it is timed."""
    return draw_from(requests, items, uniform_pool(row_count(items)), rows)(0)

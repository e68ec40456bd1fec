"""Every reference model at full shapes: exported, quantized, and equal on every engine at 1, 7 and 512 rows.

$ python benchmarks/families.py [--only din,dlrm] [--engines onnxruntime,openvino] [--rows 1,7,512]

The weights are random: this is about what engines compute, not about quality (see `families_quality.py`). FP32 is held
to PyTorch and to the float64 reference, INT8 to the reference of the same graph. Exit status 0 where all hold, else 1.
The times are medians of a few calls in one thread, with nothing done against noise: `rankine bench engines` measures.

Two minutes on one core; needs PyTorch and the engines that are named.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import torch
from script import known_names, run_script

from rankine.compilation.engine import Runner, Target
from rankine.compilation.engines import engine_names, load_engine
from rankine.compilation.verify import FP32_LIMIT, verify_logits
from rankine.compilation.verify import reference_logits as reference_of
from rankine.compression.quantize import quantize_graph
from rankine.compression.table_forms import quantize_table
from rankine.errors import EngineError
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.export import export_model
from rankine.models.inputs import torch_inputs
from rankine.models.lookup_reference import reference_lookup
from rankine.models.macs import count_graph_macs
from rankine.models.schema import CategoricalFeature, DenseFeature, Feature, Identity, Schema, SequenceFeature, Task
from rankine.models.variant import Model, Table
from rankine.models.zoo import build_model
from rankine.models.zoo.base import RankingModel, tables_of

VALUES, ITEMS, LENGTH, CATALOG = 20_000, 12_000, 50, 2_000
CALIBRATION_ROWS = 2048
TIMED_CALLS = 7
ENGINES = ("onnxruntime", "openvino")
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "dcn_v2": {"architecture": "dcn_v2"},
    "dcn_v2_stacked": {"architecture": "dcn_v2", "structure": "stacked", "low_rank": 64},
    "deepfm": {"architecture": "deepfm"},
    "din": {"architecture": "din", "embedding_dim": 32},
    "din_dice": {"architecture": "din", "embedding_dim": 32, "activation": "dice"},
    "dlrm": {"architecture": "dlrm", "embedding_dim": 64, "bottom": (512, 256), "hidden": (1024, 1024, 512, 256)},
    "mmoe": {"architecture": "mmoe"},
    "wide_deep": {"architecture": "wide_deep"},
}


def row_counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> int:
    """Run the checks; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=known_names(FAMILIES), default=tuple(FAMILIES), help="[default: all]")
    parser.add_argument(
        "--engines", type=known_names(engine_names()), default=ENGINES, help=f"[default: {','.join(ENGINES)}]"
    )
    parser.add_argument("--rows", type=row_counts, default=(1, 7, 512), help="of a call [default: 1,7,512]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures = 0
    print("| model | MACs/row | engine | numeric | largest error | limit | ms at most rows |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.only:
        failures += check(name, options.engines, options.rows)
    return 1 if failures else 0


def schema_of(name: str) -> Schema:
    """Criteo's fields, 6 + 13 of them of the request, 7 + 13 of the item; for DIN a history; two tasks for MMoE."""
    dense = [DenseFeature(name=f"i{at}", side="request" if at < 6 else "item") for at in range(13)]
    field = Identity(size=VALUES)
    values = [
        CategoricalFeature(name=f"c{at}", side="request" if at < 13 else "item", encoding=field) for at in range(26)
    ]
    features: list[Feature] = [*dense, *values]
    if name.startswith("din"):
        item = Identity(size=ITEMS)
        features = [
            SequenceFeature(name="history", side="request", encoding=item, table="item", max_length=LENGTH),
            CategoricalFeature(name="item", side="item", encoding=item),
            *values[:4],
        ]
    tasks = (Task(name="click"), Task(name="buy", label="bought")) if name == "mmoe" else (Task(),)
    return Schema(features=tuple(features), item_id="item_id", tasks=tasks)


def batch_of(schema: Schema, rows: int, seed: int = 0) -> Batch:
    """One request for every 256 rows."""
    random = np.random.default_rng([rows, seed])
    requests = 1 + rows // 256
    return Batch(
        {feature.name: _column(feature, requests, random) for feature in schema.request_features},
        {feature.name: _column(feature, CATALOG, random) for feature in schema.catalog_features},
        {},
        np.sort(random.integers(0, requests, rows, dtype=np.int32)),
        random.integers(0, CATALOG, rows, dtype=np.int32),
    )


def _column(feature: Feature, count: int, random: np.random.Generator) -> Column:
    if isinstance(feature, DenseFeature):
        return random.normal(size=(count, feature.width)).astype(np.float32)
    size = feature.encoding.size if isinstance(feature.encoding, Identity) else 0
    if not isinstance(feature, SequenceFeature):
        return random.integers(0, size, count, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, LENGTH + 1, count))]).astype(np.int32)
    return Ragged(random.integers(0, size, offsets[-1], dtype=np.int32), offsets)


def check(name: str, engines: Sequence[str], rows: Sequence[int]) -> int:
    """One line of the table for every engine and numeric form; returns how many failed."""
    torch.manual_seed(0)
    schema = schema_of(name)
    sizes = {"item": ITEMS} | {f.name: VALUES for f in schema.features if isinstance(f, CategoricalFeature)}
    names = {"item"} if name.startswith("din") else set()
    tables = {table: size for table, size in sizes.items() if table.startswith("c") or table in names}
    module = build_model(schema, tables, FAMILIES[name]).eval()
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.3)  # type: ignore[arg-type]
    failures = 0
    with tempfile.TemporaryDirectory(prefix="rankine-families-") as scratch:
        for model in _forms(name, module, Path(scratch)):
            macs = count_graph_macs(onnx.load(model.graph))
            for engine in engines:
                try:
                    error, limit, spent_ms = _run(module, model, engine, rows, Path(scratch))
                    found = f"{error:.1e} | {limit:.0e} | {spent_ms:.2f}"
                except EngineError as error:
                    failures += 1
                    found = f"**{error}** | | "
                print(f"| {name} | {macs:,} | {engine} | {model.numeric} | {found} |", flush=True)
    return failures


def _forms(name: str, module: RankingModel, folder: Path) -> tuple[Model, Model]:
    """The model in FP32 and in INT8."""
    onnx.save(export_model(module), folder / "fp32.onnx")
    tables = {table: Table(weight.numpy()) for table, weight in tables_of(module).items()}
    model = Model(name=name, schema=module.schema, graph=folder / "fp32.onnx", tables=tables)
    inputs = reference_lookup(module.schema, tables, batch_of(module.schema, CALIBRATION_ROWS, seed=1), np.float32)
    onnx.save(quantize_graph(onnx.load(model.graph), inputs), folder / "int8.onnx")
    rows = {table: quantize_table(values, "int8") for table, values in tables.items()}
    return model, replace(model, graph=folder / "int8.onnx", tables=rows, numeric="int8")


def _run(
    module: RankingModel, model: Model, name: str, rows: Sequence[int], scratch: Path
) -> tuple[float, float, float]:
    """Largest error in the measure that is bounded, its limit, and milliseconds for the last number of rows."""
    engine, folder = load_engine(name), scratch / f"{name}-{model.numeric}"
    folder.mkdir()
    engine.build(model, Target(), folder)
    runner = engine.open(model, folder)
    errors, limit, spent_ms = [0.0], 0.0, 0.0
    for count in rows:
        batch = batch_of(model.schema, count)
        expected = reference_of(model, batch)
        found = verify_logits(model, runner, batch, expected)
        errors.append(found.max_error)
        limit = found.limit
        if model.numeric == "fp32":
            errors.append(_against_pytorch(module, runner, batch))
        spent_ms = _milliseconds(runner, batch, np.empty(expected.shape, np.float32))
    runner.close()
    return max(errors), limit, spent_ms


def _against_pytorch(module: RankingModel, runner: Runner, batch: Batch) -> float:
    with torch.inference_mode():
        expected = module(torch_inputs(batch, module.schema)).numpy()
    out = np.full(expected.shape, np.nan, np.float32)
    runner.run(batch, out)
    error = float((np.abs(out - expected) / np.maximum(1, np.abs(expected))).max())
    if not error <= FP32_LIMIT:
        raise EngineError("the logits are not PyTorch's", got=f"{error:.3g}", allowed=f"{FP32_LIMIT:.0e}")
    return error


def _milliseconds(runner: Runner, batch: Batch, out: np.ndarray) -> float:
    spent = []
    for _ in range(TIMED_CALLS):
        begin = perf_counter()
        runner.run(batch, out)
        spent.append(1e3 * (perf_counter() - begin))
    return median(spent)


if __name__ == "__main__":
    run_script(main)

"""What the split by binding times gives in time: DCN-v2 (big) in parts against the whole graph, one thread.

$ python benchmarks/binding_latency.py [--repeats 60] [--gigabytes 2] [--out FILE]

Parallel DCN-v2, 13 dense and 26 categorical features (20,000 values, 16 columns), 3 full cross layers, MLP
1024-512-256; 6 dense and 13 categorical features are the request's, the others the item's. Random weights: nothing of a
time depends on them. ONNX Runtime and OpenVINO, FP32 and INT8 (canonical QDQ). The catalog holds so many items that
what is stored of them takes the gigabytes asked for, in every storage type; ids are drawn anew for every call, uniform
or by Zipf's law (exponent 1.05, places shuffled). Forms are called in turn; lookups and the request's part are
included. What is stored is computed of 20,000 items and repeated: only where it lies matters to the time.

``small``: 64 requests of 8 candidates in one batch, in rows a second of one request of 512.

Some minutes on one quiet core.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import torch
from pydantic import AwareDatetime
from script import new_file, run_script

from rankine.compilation.binding import Settings
from rankine.compilation.engine import Runner, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.split_model import SplitModels, open_split, write_split
from rankine.compilation.split_runner import SplitRunner, build_split, open_split_runner
from rankine.compression.quantize import quantize_graph
from rankine.config import Frozen
from rankine.environment import environment
from rankine.models.columns import Batch, Columns, take
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import network_of
from rankine.models.schema import CategoricalFeature, DenseFeature, Identity, Schema
from rankine.models.variant import Model
from rankine.models.zoo import build_model

OUT = Path(__file__).resolve().parent / "results" / "binding-latency.json"
ROWS, IDS, COMPUTED = 512, 20_000, 20_000
ENGINES, NUMERICS, STORAGES, DRAWS = ("onnxruntime", "openvino"), ("fp32", "int8"), ("float32", "float16", "int8"), 32
WHOLE, AGAIN = "whole", "whole, again"


class Timing(Frozen):
    """One form in one place; milliseconds of a call of 512 rows.

    Attributes:
        form: ``whole``, or how what is stored of an item is stored. ``whole, again`` is the control.
        ratio: of the median to that of ``whole``; ``ratio_low`` and ``ratio_high`` the quartiles over the turns.
        small_rows_share: rows a second of 64 requests of 8 to those of one of 512; None where it was not measured.
    """

    engine: str
    numeric: str
    ids: str
    form: str
    items: int
    stored_gigabytes: float
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    small_rows_share: float | None = None


class BindingLatency(Frozen):
    """All timings of one run."""

    schema_version: int = 1
    kind: str = "binding-latency"
    rows: int = ROWS
    repeats: int
    macs_before: int
    macs_candidate: int
    timings: tuple[Timing, ...]
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="calls of each form [default: 60]")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="stored of items [default: 2]")
    parser.add_argument("--out", type=new_file, default=OUT, help="[default: the committed result]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.repeats, arguments.gigabytes)
    arguments.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, repeats: int, gigabytes: float) -> BindingLatency:
    timings: list[Timing] = []
    work = (0, 0)
    for numeric, model in models(folder):
        splits = {storage: split(model, storage, folder) for storage in STORAGES}
        work = splits["float32"][0]
        for engine in ENGINES:
            runners: dict[str, Runner] = {WHOLE: open_whole(model, engine, folder)}
            runners |= {storage: open_parts(parts, engine, folder) for storage, (_, parts) in splits.items()}
            for ids in ("uniform", "zipf"):
                batches = {form: list(draw(runner, form, ids, gigabytes)) for form, runner in runners.items()}
                timings += time_all(engine, numeric, ids, runners, batches, repeats, gigabytes)
                del batches
                gc.collect()
            for runner in runners.values():
                runner.close()
    return BindingLatency(
        repeats=repeats,
        macs_before=work[0],
        macs_candidate=work[1],
        timings=tuple(timings),
        created=datetime.now(UTC),
        environment=environment(),
    )


def schema() -> Schema:
    side = ["request" if number < 13 else "item" for number in range(26)]
    dense = [DenseFeature(name=f"n{number}", side="request" if number < 6 else "item") for number in range(13)]
    fields = [
        CategoricalFeature(name=f"c{number}", side=side[number], encoding=Identity(size=IDS)) for number in range(26)
    ]
    return Schema(features=(*dense, *fields), item_id="item")


def models(folder: Path) -> Iterator[tuple[str, Model]]:
    """The model in FP32 and in INT8."""
    torch.manual_seed(0)
    own = schema()
    rows = {f"c{number}": IDS for number in range(26)}
    settings = {"architecture": "dcn_v2", "structure": "parallel", "cross_layers": 3, "hidden": [1024, 512, 256]}
    network = network_of(build_model(own, rows, settings).eval())
    inputs = reference_lookup(own, network.tables, batch_of(own, columns(own, "item", 2_000), 2_000), np.float32)
    for numeric, graph in (("fp32", network.graph), ("int8", quantize_graph(network.graph, inputs))):
        path = folder / f"{numeric}.onnx"
        onnx.save(graph, str(path))
        yield numeric, Model(name=numeric, schema=own, graph=path, tables=network.tables, numeric=numeric)


def split(model: Model, storage: str, folder: Path) -> tuple[tuple[int, int], SplitModels]:
    into = folder / f"{model.name}-{storage}"
    into.mkdir()
    plan = write_split(model, Settings.model_validate({"storage": storage}), into)
    if plan is None:
        raise SystemExit("the model stays whole")
    return (plan.work.before, plan.work.candidate), open_split(model, into)


def open_whole(model: Model, engine: str, folder: Path) -> Runner:
    into = folder / f"{model.name}-{engine}"
    into.mkdir()
    load_engine(engine).build(model, Target(), into)
    return load_engine(engine).open(model, into)


def open_parts(parts: SplitModels, engine: str, folder: Path) -> SplitRunner:
    into = folder / f"{parts.folder.name}-{engine}"
    into.mkdir()
    build_split(load_engine(engine), parts, Target(), into)
    if parts.catalog is None:
        raise SystemExit("nothing is stored")
    ort = load_engine("onnxruntime")
    (into / "catalog").mkdir()
    ort.build(parts.catalog, Target(), into / "catalog")
    return open_split_runner(load_engine(engine), parts, into, ort.open(parts.catalog, into / "catalog"))


def columns(own: Schema, side: str, count: int) -> dict[str, np.ndarray]:
    """Encoded values of all features of a side, ``count`` rows."""
    generator = np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for feature in own.features:
        if feature.side == side:
            ids = generator.integers(0, IDS, count, np.int32)
            found[feature.name] = (
                generator.normal(0, 1, (count, 1)).astype(np.float32) if isinstance(feature, DenseFeature) else ids
            )
    return found


def batch_of(own: Schema, items: Columns, count: int, ids: np.ndarray | None = None, requests: int = 1) -> Batch:
    generator = np.random.default_rng(2)
    index = generator.integers(0, count, ROWS, np.int32) if ids is None else ids
    shared = np.repeat(np.arange(requests, dtype=np.int32), ROWS // requests)
    return Batch(columns(own, "request", requests), items, {}, shared, index)


def draw(runner: Runner, form: str, law: str, gigabytes: float) -> Iterator[Batch]:
    """Batches of one request and 512 items of a catalog of that size."""
    own = schema()
    computed = runner.complete(columns(own, "item", COMPUTED))
    stored = {name: column for name, column in computed.items() if name.startswith("rankine.")}
    item_bytes = sum(column.nbytes for column in stored.values()) / COMPUTED or 6_672
    count = int(gigabytes * 1e9 / item_bytes) + 1
    catalog = take(computed, np.random.default_rng(3).integers(0, COMPUTED, count))
    yield from (batch_of(own, catalog, count, ids) for ids in ids_of(law, count))


def ids_of(law: str, count: int) -> Sequence[np.ndarray]:
    generator = np.random.default_rng(4)
    if law == "uniform":
        return [generator.integers(0, count, ROWS, np.int32) for _ in range(DRAWS)]
    places = generator.permutation(count).astype(np.int32)
    ends = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -1.05)
    return [places[np.searchsorted(ends, generator.random(ROWS) * ends[-1])] for _ in range(DRAWS)]


def time_all(
    engine: str,
    numeric: str,
    ids: str,
    runners: Mapping[str, Runner],
    batches: Mapping[str, Sequence[Batch]],
    repeats: int,
    gigabytes: float,
) -> list[Timing]:
    """All forms in turn, and of the forms in parts many small requests."""
    calls: dict[str, tuple[Runner, Sequence[Batch]]] = {form: (runners[form], batches[form]) for form in runners}
    calls[AGAIN] = calls[WHOLE]
    small = {form: [_small(one) for one in drawn] for form, drawn in batches.items() if form != WHOLE}
    calls |= {f"{form}, small": (runners[form], drawn) for form, drawn in small.items()}
    out = np.empty((ROWS, 1), np.float32)
    times = {form: np.empty(repeats) for form in calls}
    for turn in range(-5, repeats):
        for form, (runner, drawn) in calls.items():
            batch = drawn[turn % DRAWS]
            begin = perf_counter()
            runner.run(batch, out)
            if turn >= 0:
                times[form][turn] = (perf_counter() - begin) * 1e3
    found = []
    for form in (*runners, AGAIN):
        own, ratios = times[form], times[form] / times[WHOLE]
        stored = 0.0 if form in (WHOLE, AGAIN) else gigabytes
        share = None if form not in small else float(np.median(own) / np.median(times[f"{form}, small"]))
        found.append(
            Timing(
                engine=engine,
                numeric=numeric,
                ids=ids,
                form=form,
                items=_items(calls[form][1][0]),
                stored_gigabytes=stored,
                median_ms=float(np.median(own)),
                low_ms=float(np.quantile(own, 0.25)),
                high_ms=float(np.quantile(own, 0.75)),
                ratio=float(np.median(own) / np.median(times[WHOLE])),
                ratio_low=float(np.quantile(ratios, 0.25)),
                ratio_high=float(np.quantile(ratios, 0.75)),
                small_rows_share=share,
            )
        )
        print(engine, numeric, ids, form, f"{found[-1].median_ms:.2f} ms", f"{found[-1].ratio:.3f}", share, flush=True)
    return found


def _small(batch: Batch) -> Batch:
    """The same items for 64 requests of 8 candidates."""
    return replace(batch_of(schema(), batch.item, 0, batch.item_index, requests=64), item=batch.item)


def _items(batch: Batch) -> int:
    return len(batch.item["c13"])


if __name__ == "__main__":
    run_script(main)

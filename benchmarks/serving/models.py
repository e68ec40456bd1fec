"""The two models that every server serves: built once into a work folder, native engine, in parts, catalog beside.

*big*: DCN-v2 (big) in canonical INT8 with random weights, 20,000 items; nothing of a time depends on the weights.
*small*: the fastest certified MovieLens-1M variant of `compression.py`, with the data set's own users and items.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families import VALUES, schema_of
from families_quality import FAMILIES, open_data
from numpy.typing import NDArray

from rankine.artifact import Artifact, Draft
from rankine.catalog import write_catalog
from rankine.certification.plan import PLAN_FILE, Plan
from rankine.compilation.compile import compile_artifact
from rankine.compression.quantize import quantize_graph
from rankine.errors import UsageError
from rankine.models.columns import Column, Columns, Ragged, row_count, take
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network, network_of, put_network
from rankine.models.random_rows import random_batch
from rankine.models.schema import CategoricalFeature
from rankine.models.transforms import Transforms
from rankine.models.zoo import build_model
from rankine.planning.optimize import verification_rows
from serving.served import ENGINE, Name, Served

ITEMS, USERS = 20_000, 2_000
BIG_VARIANT = "int8"
_BIG = {"architecture": "dcn_v2", "structure": "parallel", "cross_layers": 3, "hidden": [1024, 512, 256]}
_CALIBRATION_ROWS, _VERIFY_ROWS = 2_048, 64


def open_served(name: Name, work: Path, *, compressed: Path | None, data_root: Path) -> Served:
    """The model in ``work``, built first where it is not there.

    Args:
        compressed: artifact of `compression.py` for MovieLens-1M; needed to build *small*.
        data_root: folder with ml-1m; needed to build *small*.

    Raises:
        UsageError: *small* has to be built and ``compressed`` is not given.
    """
    folder = work / name
    if not (folder / "model.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what a run that was cut off left
        folder.mkdir(parents=True)
        if name == "big":
            _build_big(folder)
        else:
            _build_small(folder, compressed, data_root)
    told = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    ids = np.load(folder / "items.npy", allow_pickle=False)
    return Served(name, folder / "artifact", folder / "catalog", told["variant"], told["users"], ids)


def _build_big(folder: Path) -> None:
    torch.manual_seed(0)
    schema = schema_of("dcn_v2")
    tables = {one.name: VALUES for one in schema.features if isinstance(one, CategoricalFeature)}
    raw = random_batch(schema, tables, ITEMS, seed=2)
    transforms = Transforms.fit(schema, {**raw.request, **raw.item})
    module = build_model(schema, tables, _BIG).eval()
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.3)  # type: ignore[arg-type]
    network = network_of(module)
    rows = random_batch(schema, tables, _CALIBRATION_ROWS, seed=1)
    inputs = reference_lookup(schema, network.tables, rows, np.float32)
    int8 = Network(schema, quantize_graph(network.graph, inputs), network.tables, "int8")
    draft = Draft("train", name="big")
    transforms.write(draft)
    put_network(draft, int8, name=BIG_VARIANT, parent=None, steps=("random weights",), validation_auc=None, details={})
    trained = draft.commit(folder / "trained")
    verify = random_batch(schema, tables, _VERIFY_ROWS, seed=3)
    compile_artifact(trained, engines=(ENGINE,), verify_batch=verify, out=folder / "artifact")
    ids = np.arange(1, ITEMS + 1, dtype=np.int64)
    write_catalog(folder / "catalog", schema, ids, raw.item)
    _finish(folder, BIG_VARIANT, raw.request, ids)


def _build_small(folder: Path, compressed: Path | None, data_root: Path) -> None:
    if compressed is None:
        hint = "Pass --compressed WORK/dcn_v2/compressed, which benchmarks/compression.py leaves."
        raise UsageError("the small model is not built yet", where=str(folder), hint=hint)
    parent = Artifact.open(compressed)
    dataset = open_data(FAMILIES["dcn_v2"], data_root)
    rows = verification_rows(parent, dataset)
    compile_artifact(parent, engines=(ENGINE,), verify_batch=rows, out=folder / "artifact")
    write_catalog(folder / "catalog", dataset.schema, dataset.item_ids, dataset.items)
    variant = parent.read_json(PLAN_FILE, Plan).variant
    _finish(folder, variant, dataset.requests, np.asarray(dataset.item_ids, np.int64))


def _finish(folder: Path, variant: str, requests: Columns, ids: NDArray[np.int64]) -> None:
    """Users and items beside the artifact; ``model.json`` comes last and says that all is there."""
    np.save(folder / "items.npy", ids)
    chosen = np.random.default_rng(5).permutation(row_count(requests))[:USERS]
    told = {"variant": variant, "users": _records(take(requests, chosen))}
    (folder / "model.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def _records(columns: Columns) -> list[dict[str, Any]]:
    """Columns as JSON takes them, one mapping a row."""
    plain = {name: _plain(column) for name, column in columns.items()}
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def _plain(column: Column) -> list[Any]:
    if isinstance(column, Ragged):
        return [
            part.tolist() for part in np.split(np.asarray(column.values), np.asarray(column.offsets)[1:-1].astype(int))
        ]
    values = np.asarray(column)
    if values.dtype.kind == "S":
        return [value.decode() for value in values.tolist()]
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    plain: list[Any] = values.tolist()
    return plain

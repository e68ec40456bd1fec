"""Every model family the whole way: trained, INT8, certified, served, and asked for a ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.serve_process import ServerProcess, start_server
from e2e.triton_conformance import check_tritonclient
from rankine.artifact import Artifact
from rankine.catalog import catalog_beside, write_catalog
from rankine.certification import Margins
from rankine.certification.plan import PLAN_FILE, Plan, certified_pairs, task_certificates
from rankine.compilation.compile import build_names
from rankine.compilation.verify import reference_logits
from rankine.compression.recipe import Prune, Quantize, Recipe
from rankine.data import Dataset, load_behavior, load_dataset
from rankine.metrics import sigmoid
from rankine.models.columns import Batch, take
from rankine.models.schema import Task
from rankine.models.transforms import Transforms
from rankine.models.variant import load_model
from rankine.models.zoo import ARCHITECTURES
from rankine.planning.optimize import optimize
from rankine.serving import ServeConfig
from rankine.training.fit import FitConfig
from rankine.training.train import train

pytestmark = pytest.mark.e2e

FIT = FitConfig(batch_rows=512, max_epochs=2, learning_rate=5e-3)
INT8 = Recipe(name="whole", passes=(Quantize(calibration_rows=512),))
CANDIDATES = 40
MODELS: Mapping[str, Mapping[str, Any]] = {
    "dlrm": {"bottom": (16,), "hidden": (32, 16)},
    "dcn_v2": {"structure": "stacked", "low_rank": 8, "hidden": (32, 16)},
    "deepfm": {"hidden": (32, 16)},
    "wide_deep": {"hidden": (32, 16)},
    "mmoe": {"experts": 2, "hidden": (32, 16), "tower": (8,)},
    "din": {"attention": (16, 8), "hidden": (32, 16)},
}


def dataset_of(name: str, folder: Path) -> Dataset:
    """Planted rows; two tasks for MMoE, histories for DIN."""
    if name == "din":
        return load_behavior(_write_log(folder), test_negatives=20)
    dataset = load_dataset("synthetic", rows=10_000)
    if name != "mmoe":
        return dataset
    flipped = np.random.default_rng(0).random((dataset.rows, 1)) < 0.1
    schema = dataset.schema.model_copy(
        update={"tasks": (Task(name="click"), Task(name="stay")), "ranking": "click * stay"}
    )
    return replace(
        dataset,
        schema=schema,
        labels=np.hstack([dataset.labels, np.where(flipped, 1 - dataset.labels, dataset.labels)]),
    )


def _write_log(folder: Path, users: int = 200, items: int = 60) -> Path:
    """Users who walk through the items in steps of one: what comes next follows from the history."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(1)
    lengths = random.integers(5, 12, users)
    start = np.repeat(random.integers(0, items, users), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    log = {"user": np.repeat(np.arange(users), lengths), "item": 1 + (start + position) % items, "pos": position}
    parquet.write_table(pa.table(log), folder / "Walk_seq.parquet")
    attributes = [[1 + item % 5, 6 + item % 3] for item in range(items)]
    table = pa.table({"item": np.arange(1, items + 1), "attributes": attributes})
    parquet.write_table(table, folder / "Walk_item_attributes.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Dataset, Artifact]]:
    """A family's rows and its baseline, trained once."""

    @cache
    def make(name: str) -> tuple[Dataset, Artifact]:
        folder = tmp_path_factory.mktemp(name)
        dataset = dataset_of(name, folder)
        model = {"architecture": name, "embedding_dim": 8, **MODELS[name]}
        return dataset, train(dataset, model, FIT, out=folder / "baseline", name=name)

    return make


def test_no_family_is_left_out_when_the_zoo_grows() -> None:
    assert set(MODELS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", MODELS)
def test_family_ranks_as_its_reference_when_trained_quantized_certified_and_served(
    name: str, trained: Callable[[str], tuple[Dataset, Artifact]], tmp_path: Path
) -> None:
    dataset, baseline = trained(name)
    # After two epochs nothing is calibrated: then nobody can tell whether it got worse.
    margins = Margins.of(0.2).model_copy(update={"calibration": None})
    artifact = optimize(baseline, (INT8,), dataset, margin=margins, out=tmp_path / "whole")
    write_catalog(catalog_beside(artifact.path), dataset.schema, dataset.item_ids, dataset.items)
    plan = artifact.read_json(PLAN_FILE, Plan)
    assert (plan.variant, plan.engine) in certified_pairs(artifact)
    assert {variant for variant, _ in task_certificates(artifact)} == {"baseline", "whole-int8"}
    for by_task in task_certificates(artifact).values():
        assert list(by_task) == list(dataset.schema.task_names)
    server = start_server(ServeConfig(artifact=artifact.path, port=0, grpc_port=0, variant="whole-int8"))
    try:
        asked = server.ask("GET", f"/v1/models/{name}/examples?count=3&candidates={CANDIDATES}").json["examples"]
        for body in asked:
            reply = server.ask("POST", "/v1/rank", {**body, "top_k": CANDIDATES})
            assert reply.status == 200, reply.body
            _check(artifact, dataset, body, reply.json)
            _check_tritonclient(server, name, dataset, body, reply.json)
        _check_page(server.ask("GET", "/").body.decode(), server.ask("GET", f"/v1/models/{name}").json)
    finally:
        assert server.stop() == 0


def test_variant_ranks_as_its_reference_when_whole_features_were_pruned_from_it(
    trained: Callable[[str], tuple[Dataset, Artifact]], tmp_path: Path
) -> None:
    dataset, baseline = trained("deepfm")
    fields = Prune(macs=0.7, steps=1, what=("fields",), calibration_rows=512, tune=None)
    recipe = Recipe(name="whole", passes=(fields, *INT8.passes))
    margins = Margins.of(0.4).model_copy(update={"calibration": None})
    artifact = optimize(baseline, (recipe,), dataset, margin=margins, out=tmp_path / "whole")
    write_catalog(catalog_beside(artifact.path), dataset.schema, dataset.item_ids, dataset.items)
    left = load_model(artifact, "whole-int8").schema.feature_names
    assert 0 < len(left) < len(dataset.schema.feature_names)
    for engine in build_names(artifact, "whole-int8"):
        server = start_server(ServeConfig(artifact=artifact.path, port=0, variant="whole-int8", engine=engine))
        try:
            examples = server.ask("GET", f"/v1/models/deepfm/examples?count=1&candidates={CANDIDATES}").json["examples"]
            assert set(examples[0]["request"]) == {feature.name for feature in dataset.schema.request_features}
            reply = server.ask("POST", "/v1/rank", {**examples[0], "top_k": CANDIDATES})
            assert reply.status == 200, reply.body
            _check(artifact, dataset, examples[0], reply.json)
        finally:
            assert server.stop() == 0


def _check(artifact: Artifact, dataset: Dataset, body: Any, reply: Any) -> None:
    """The reply's scores are those of the float64 reference of the same INT8 graph, best first."""
    schema = dataset.schema
    value = schema.ranking_function()(_scores(artifact, dataset, body))
    by_id = dict(zip(body["candidates"]["ids"], value, strict=True))
    assert sorted(reply["ids"]) == sorted(body["candidates"]["ids"])
    assert reply["scores"] == sorted(reply["scores"], reverse=True)
    assert reply["scores"] == pytest.approx([by_id[item] for item in reply["ids"]], abs=0.03)


def _check_tritonclient(server: ServerProcess, name: str, dataset: Dataset, body: Any, reply: Any) -> None:
    position = {item: at for at, item in enumerate(dataset.item_ids.tolist())}
    rows = np.array([position[item] for item in body["candidates"]["ids"]], np.int32)
    check_tritonclient(server, name, dataset.schema, take(dataset.items, rows), body, reply)


def _check_page(page: str, described: Any) -> None:
    """With several tasks the page names them, their ranking, and the task whose certificate it shows."""
    tasks = [task["name"] for task in described["tasks"]]
    several = len(tasks) > 1
    assert (f"<td>{', '.join(tasks)}</td>" in page) == several
    assert (f"<td>ranked by</td><td>{described['ranking']}</td>" in page) == several
    assert (f"(of the worst task, {described['certificate']['task']})" in page) == several


def _scores(artifact: Artifact, dataset: Dataset, body: Any) -> dict[str, np.ndarray]:
    from rankine.models.columns import Ragged

    transforms, schema = Transforms.read(artifact), dataset.schema
    columns = {}
    for feature in schema.request_features:
        value = body["request"][feature.name]
        if isinstance(value, list) and feature.kind != "dense":
            columns[feature.name] = Ragged.from_lists([value], np.int64)
        else:
            columns[feature.name] = np.array([value]).reshape(1, -1) if feature.kind == "dense" else np.array([value])
    position = {item: at for at, item in enumerate(dataset.item_ids.tolist())}
    rows = np.array([position[item] for item in body["candidates"]["ids"]], np.int32)
    batch = Batch(
        transforms.encode(schema.request_features, columns, unseen="row"),
        transforms.encode(schema.catalog_features, dataset.items, unseen="row"),
        {},
        np.zeros(len(rows), np.int32),
        rows,
    )
    logits = reference_logits(load_model(artifact, "whole-int8"), batch)
    return {name: sigmoid(logits[:, at]) for at, name in enumerate(schema.task_names)}

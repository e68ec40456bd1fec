"""A variant in parts is the variant: through every engine, whatever is stored, whoever gives the items."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest

from engine.conftest import installed_engine
from engine.families import FAMILIES, family_module, family_network
from engine.small_model import small_batch, small_schema
from rankine.compilation.binding import CostModel, Settings
from rankine.compilation.engine import Target
from rankine.compilation.product_runner import ProductRunner
from rankine.compilation.split_model import SplitModels, open_split, write_split
from rankine.compilation.split_runner import SplitRunner, build_split, open_split_runner
from rankine.compilation.verify import FP32_LIMIT, reference_logits
from rankine.errors import BadRequest
from rankine.models.columns import Batch, take
from rankine.models.network import Network, network_of
from rankine.models.schema import Schema
from rankine.models.variant import Model

pytestmark = pytest.mark.engine

_CHEAP = CostModel(catalog_byte=0.01, request_byte=0.01, element=0.01, slow_element=0.01)
"""Everything that can be taken out is, also of models as small as these."""
_WHOLE = ("dcn_v2-stacked-low-rank",)
"""Families whose first layer is too little of them to be worth a call in parts."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return _written("dcn_v2", tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> SplitRunner:
    """Of a model whose request's part is one product of its features."""
    folder = tmp_path_factory.mktemp("product")
    return _open(_product_model(folder), folder)


def _product_model(folder: Path) -> Model:
    return _saved(network_of(family_module("dcn_v2", _request_features_apart())), "dcn_v2", folder)


def _request_features_apart() -> Schema:
    """No history, and no two features of the request side by side: all that is left of them are products."""
    schema = small_schema()
    request, others = schema.request_features, [one for one in schema.features if one.side != "request"]
    features = tuple(one for pair in zip_longest(request, others) for one in pair if one is not None)
    return schema.model_copy(update={"features": features})


def _written(family: str, folder: Path) -> Model:
    return _saved(family_network(family), family, folder)


def _saved(network: Network, name: str, folder: Path) -> Model:
    import onnx

    onnx.save(network.graph, str(folder / "graph.onnx"))
    return Model(name, network.schema, folder / "graph.onnx", network.tables)


def _open(model: Model, folder: Path, engine_name: str = "onnxruntime", **settings: object) -> SplitRunner:
    engine, catalog_engine = installed_engine(engine_name), installed_engine("onnxruntime")
    parts = _split(model, folder, **settings)
    (folder / "build").mkdir()
    build_split(engine, parts, Target(), folder / "build")
    catalog = None
    if parts.catalog is not None:
        (folder / "catalog").mkdir()
        catalog_engine.build(parts.catalog, Target(), folder / "catalog")
        catalog = catalog_engine.open(parts.catalog, folder / "catalog")
    return open_split_runner(engine, parts, folder / "build", catalog)


def _split(model: Model, folder: Path, **settings: object) -> SplitModels:
    plan = write_split(model, Settings.model_validate({"costs": _CHEAP, **settings}), folder)
    assert plan is not None
    return open_split(model, folder)


def _run(runner: SplitRunner, batch: Batch, tasks: int) -> np.ndarray:
    out = np.full((batch.rows, tasks), np.nan, np.float32)
    runner.run(batch, out)
    return out


def _error(logits: np.ndarray, expected: np.ndarray) -> float:
    return float((np.abs(logits - expected) / np.maximum(1.0, np.abs(expected))).max())


@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in _WHOLE])
def test_parts_give_the_logits_of_the_whole_when_any_family_runs_on_any_engine(
    family: str, engine_name: str, tmp_path: Path
) -> None:
    model, batch = _written(family, tmp_path), small_batch(130, seed=3)
    expected = reference_logits(model, batch)
    runner = _open(model, tmp_path, engine_name)
    completed = replace(batch, item=runner.complete(batch.item))
    for rows in (np.arange(130), np.array([7]), np.arange(20, 60)):
        for given in (batch, completed):
            found = _run(runner, given.select(rows), expected.shape[1])
            assert _error(found, expected[rows]) <= FP32_LIMIT
    runner.close()


@pytest.mark.parametrize(("storage", "limit"), [("float16", 5e-3), ("int8", 5e-2)])
def test_scores_are_near_when_what_is_stored_is_rounded(
    storage: str, limit: float, model: Model, tmp_path: Path
) -> None:
    batch = small_batch(90, seed=1)
    runner = _open(model, tmp_path, storage=storage)
    expected = reference_logits(model, batch)
    items = runner.complete(batch.item)
    assert items["rankine.catalog.0"].dtype == (np.float16 if storage == "float16" else np.uint8)  # type: ignore[union-attr]
    error = _error(_run(runner, replace(batch, item=items), 1), expected)
    assert FP32_LIMIT < error < limit


def test_requests_share_a_batch_when_each_has_its_own_rows(model: Model, tmp_path: Path) -> None:
    batch = small_batch(64, seed=5)
    order = np.argsort(batch.request_index, kind="stable")
    runner = _open(model, tmp_path)
    together = _run(runner, batch.select(order), 1)
    for request in np.unique(batch.request_index):
        rows = np.flatnonzero(batch.request_index[order] == request)
        alone = batch.select(order[rows])
        alone = replace(
            alone, request=take(alone.request, np.array([request])), request_index=np.zeros(len(rows), np.int32)
        )
        np.testing.assert_allclose(_run(runner, alone, 1), together[rows], rtol=1e-5, atol=1e-5)


def test_logits_are_right_when_the_requests_part_is_one_product(product: SplitRunner, tmp_path: Path) -> None:
    assert isinstance(product._request, ProductRunner)
    batch = small_batch(340, seed=3)
    expected = reference_logits(_product_model(tmp_path), batch)
    assert len(np.unique(batch.request_index)) == 4
    for rows in (np.arange(340), np.array([339]), np.array([2, 338]), np.arange(120, 150)):
        assert _error(_run(product, batch.select(rows), 1), expected[rows]) <= FP32_LIMIT


@pytest.mark.parametrize("wrong", [-1, 50])
def test_id_of_a_request_is_refused_when_its_part_is_one_product(wrong: int, product: SplitRunner) -> None:
    batch = small_batch(340, seed=3)
    users = np.array(batch.request["user"])
    users[2] = wrong
    bad = replace(batch, request={**batch.request, "user": users})
    with pytest.raises(BadRequest, match="user") as refused:
        _run(product, bad, 1)
    assert refused.value.got == str(wrong)


@pytest.mark.parametrize("side", ["item_index", "request_index"])
@pytest.mark.parametrize("wrong", [-1, 10_000])
@pytest.mark.parametrize("complete", [True, False])
def test_index_is_refused_when_out_of_range(
    side: str, wrong: int, complete: bool, model: Model, tmp_path: Path
) -> None:
    batch, runner = small_batch(20, seed=2), _open(model, tmp_path)
    index = getattr(batch, side).copy()
    index[11] = wrong
    bad = replace(batch, **{side: index})
    if complete:
        bad = replace(bad, item=runner.complete(batch.item))
    with pytest.raises(BadRequest, match="out of range"):
        _run(runner, bad, 1)


def test_nothing_runs_when_a_batch_has_no_rows(model: Model, tmp_path: Path) -> None:
    runner = _open(model, tmp_path)
    assert _run(runner, small_batch(8).select(np.arange(0)), 1).shape == (0, 1)


@pytest.mark.parametrize("family", _WHOLE)
def test_family_stays_whole_when_too_little_of_it_is_known_early(family: str, tmp_path: Path) -> None:
    assert write_split(_written(family, tmp_path), Settings(costs=_CHEAP), tmp_path) is None


def test_model_stays_whole_when_little_is_known_early(model: Model, tmp_path: Path) -> None:
    assert write_split(model, Settings(costs=CostModel(catalog_byte=1e6, request_byte=1e6)), tmp_path) is None
    assert not any(tmp_path.glob("*.onnx"))

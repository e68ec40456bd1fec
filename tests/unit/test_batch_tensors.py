"""Batches as tensors of the protocol's third name: there and back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rankine.certification.plan import variant_digest
from rankine.errors import BadRequest
from rankine.models.columns import Batch
from rankine.models.schema import CategoricalFeature, Identity, MultiHotFeature, Schema
from rankine.serving.protocols.batch_tensors import (
    ITEM_INDEX,
    REQUEST_INDEX,
    batch_inputs,
    batch_limits,
    batch_tensors,
    columns_of,
    mark_of,
)
from rankine.serving.protocols.oip import Inference, OipModel, oip_models
from rankine.serving.protocols.oip_tensors import Tensor
from rankine.serving.remote.lost import RemoteLost
from rankine.serving.remote.wire import decode_reply, encode_request
from rankine.serving.warm import warm_works
from rankine.serving.work import Outcome, join
from unit.numpy_served import numpy_model

Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return numpy_model(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module")
def form(served: Any) -> OipModel:
    return oip_models(served, max_candidates=2000)[f"{served.name}.batch"]


@pytest.fixture
def batch(served: Any) -> Batch:
    found = join([warm_works(served, 2000)[4]], lambda items: items)
    return replace(found, pair={**found.pair, "slot": np.zeros(found.rows, np.int32)})  # the runner refuses some


@pytest.fixture
def ask(form: OipModel, served: Any, batch: Batch) -> Callable[..., Inference]:
    """The batch as a request, of which some tensors are others."""

    def asked(**others: np.ndarray | None) -> Inference:
        tensors = [(name, kind, others.get(name, values)) for name, kind, values in batch_tensors(served.schema, batch)]
        sent = [(name, kind, values) for name, kind, values in tensors if values is not None]
        raw, head = encode_request(sent, timeout_s=None)
        return form.prepare(raw, header_bytes=head, arrived_s=0.0, deadline_s=1.0)

    return asked


def test_logits_are_those_of_the_batch_when_it_went_over_the_wire(
    served: Any, form: OipModel, batch: Batch, ask: Callable[..., Inference]
) -> None:
    inference = ask()
    expected, found = (np.empty((batch.rows, len(served.schema.tasks)), np.float32) for _ in range(2))
    served.runner.run(batch, expected)
    served.runner.run(join([inference.work], served.runner.complete), found)
    assert found.tolist() == expected.tolist()
    outcome = Outcome(found, 0.0, 0.0, batch.rows, 1, "alone", served.rungs[0].variant, "numpy")
    raw, head = form.reply(inference, outcome)
    outputs = decode_reply(raw, head, "here")
    assert outputs["logits"].tolist() == expected.tolist()
    variant = bytes.fromhex(variant_digest(served.artifact, served.rungs[0].variant))
    assert outputs["computed_by"].tobytes() == mark_of(variant, certified=True) == variant


def test_reply_is_marked_when_not_all_that_is_served_is_certified(
    served: Any, batch: Batch, ask: Callable[..., Inference]
) -> None:
    marked = oip_models(replace(served, certified=False), max_candidates=2000)[f"{served.name}.batch"]
    logits = np.zeros((batch.rows, len(served.schema.tasks)), np.float32)
    outcome = Outcome(logits, 0.0, 0.0, batch.rows, 1, "alone", served.rungs[0].variant, "numpy")
    found = decode_reply(*marked.reply(ask(), outcome), "here")["computed_by"].tobytes()
    variant = bytes.fromhex(variant_digest(served.artifact, served.rungs[0].variant))
    assert found == mark_of(variant, certified=False) != variant


def test_only_items_that_rows_refer_to_are_sent_when_a_batch_refers_to_a_catalog(served: Any, batch: Batch) -> None:
    sent = {name: values for name, _, values in batch_tensors(served.schema, batch)}
    assert set(sent) <= {spec["name"] for spec in batch_inputs(served.schema)}
    assert sent[ITEM_INDEX].max() + 1 == len(np.unique(batch.item_index))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (ITEM_INDEX, lambda index: index + 100_000, "the index is out of range"),
        (ITEM_INDEX, lambda index: index - 1, "the index is out of range"),
        (REQUEST_INDEX, lambda index: index + 7, "the index is out of range"),
        (ITEM_INDEX, lambda index: index[:-1], "wrong number of rows"),
        (REQUEST_INDEX, lambda index: None, "required input is missing"),
    ],
)
def test_batch_is_refused_when_an_index_is_wrong(
    batch: Batch, ask: Callable[..., Inference], name: str, change: Callable[[np.ndarray], Any], said: str
) -> None:
    index = batch.request_index if name == REQUEST_INDEX else np.unique(batch.item_index, return_inverse=True)[1]
    with pytest.raises(BadRequest, match=said):
        ask(**{name: change(np.asarray(index, np.int32))})


def test_batch_is_refused_when_a_feature_is_missing(served: Any, ask: Callable[..., Inference]) -> None:
    for spec in batch_inputs(served.schema):
        if not spec["name"].endswith(".weights"):
            with pytest.raises(BadRequest, match="missing"):
                ask(**{spec["name"]: None})


@pytest.mark.parametrize(("pooling", "takes"), [("sum", True), ("max", False)])
def test_weights_are_refused_when_the_model_takes_none_of_the_list(pooling: Any, takes: bool) -> None:
    item = CategoricalFeature(name="item", side="item", encoding=Identity(size=5))
    tags = MultiHotFeature(name="tags", side="request", encoding=Identity(size=5), pooling=pooling)
    schema = Schema(features=(item, tags), item_id="item")
    assert set(batch_limits(schema, 9)) == {spec["name"] for spec in batch_inputs(schema)}
    assert ("tags.weights" in batch_limits(schema, 9)) is takes
    given = (
        Tensor("tags.values", "INT32", (2,), np.array([1, 2], np.int32)),
        Tensor("tags.offsets", "INT32", (2,), np.array([0, 2], np.int32)),
        Tensor("tags.weights", "FP32", (2,), np.array([1, 2], np.float32)),
    )
    tensors = {one.name: one for one in given}
    if takes:
        assert columns_of(schema, (tags,), tensors, 1)["tags"].weights.tolist() == [1, 2]  # type: ignore[union-attr]
        return
    with pytest.raises(BadRequest, match=r"tags\.weights: the model takes no weights"):
        columns_of(schema, (tags,), tensors, 1)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"outputs":[{"name":"a","datatype":"FP32","shape":[2],"data":[1]}]}'])
def test_reply_is_no_answer_when_it_is_not_of_the_protocol(raw: bytes) -> None:
    with pytest.raises(RemoteLost, match="cannot be read"):
        decode_reply(raw, None, "http://there")

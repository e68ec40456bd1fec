"""Histories, weighted lists and several tasks through the Open Inference Protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest

from e2e.history_served import (
    LONGEST_SENT,
    encoded,
    raw_batch,
)
from rankine.errors import BadRequest, PayloadTooLarge
from rankine.models.columns import Ragged
from rankine.serving.model import ServedModel
from rankine.serving.protocols.oip import oip_models
from rankine.serving.work import Outcome, join
from unit.history_requests import Body, history_model, infer, ragged, sigmoid, tensor
from unit.numpy_served import as_they_are, expected_logits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return history_model(tmp_path_factory.mktemp("model"))


def rank_inputs(rows: int, history: list[int] | None = None) -> list[Body]:
    """The tensors of ``history_body(rows)``."""
    request, pair = raw_batch(rows, history)
    return [
        tensor("ids", "INT64", [100 + row for row in range(rows)]),
        tensor("user", "INT64", [7]),
        *ragged("history", "INT64", request["history"]),
        *ragged("interests", "BYTES", request["interests"]),
        *ragged("context", "INT64", pair["context"]),
        tensor("match", "FP32", np.asarray(pair["match"]).tolist()),
    ]


@pytest.mark.parametrize("history", [None, [], [100 + at % 60 for at in range(100)]])
def test_tensors_give_the_same_work_as_the_rank_endpoint_when_values_are_the_same(
    model: ServedModel, history: list[int] | None
) -> None:
    got = infer(oip_models(model, max_candidates=20)["history.rank"], rank_inputs(9, history))
    assert np.array_equal(expected_logits(join([got.work], as_they_are), 2), expected_logits(encoded(9, history), 2))


def test_metadata_has_an_output_a_task_when_there_are_two(model: ServedModel) -> None:
    for name, ids in (("history", []), ("history.rank", ["ids"])):
        metadata = oip_models(model, max_candidates=20)[name].metadata()
        outputs = {output["name"]: output["shape"] for output in metadata["outputs"]}
        assert list(outputs) == [*ids, "scores", "logits", "scores.ctr", "scores.cvr"]
        assert outputs["logits"] == [-1, 2]
        names = [given["name"] for given in metadata["inputs"]]
        assert {"history.values", "history.offsets", "history.weights", "tags.values"} <= set(names)
        assert "tags.weights" not in names


def test_replies_of_both_forms_tell_logits_and_tasks_when_there_are_two(model: ServedModel) -> None:
    logits = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], np.float32)
    value = sigmoid(logits[:, 0]) * np.sqrt(sigmoid(logits[:, 1]))
    target = oip_models(model, max_candidates=20)["history.rank"]
    body, _ = target.reply(
        infer(target, rank_inputs(3), parameters={"top_k": 2}), Outcome(logits, 0, 0, 3, 1, "", "baseline", "numpy")
    )
    outputs = {output["name"]: output for output in json.loads(body)["outputs"]}
    order = np.argsort(-value)[:2]
    assert outputs["ids"]["data"] == (100 + order).tolist()
    assert outputs["scores"]["data"] == pytest.approx(value[order].tolist(), rel=1e-6)
    assert outputs["logits"]["shape"] == [2, 2]
    assert outputs["logits"]["data"] == logits[order].ravel().tolist()
    assert outputs["scores.cvr"]["data"] == pytest.approx(sigmoid(logits[order, 1]).tolist(), rel=1e-6)
    flat = oip_models(model, max_candidates=20)["history"]
    wanted = [{"name": "scores.ctr"}, {"name": "scores"}]
    body, _ = flat.reply(
        infer(flat, flat_inputs(3), outputs=wanted), Outcome(logits, 0, 0, 3, 1, "", "baseline", "numpy")
    )
    first, second = json.loads(body)["outputs"]
    assert first["data"] == pytest.approx(sigmoid(logits[:, 0]).tolist(), rel=1e-6)
    assert second["data"] == pytest.approx(value.tolist(), rel=1e-6)


def flat_inputs(rows: int) -> list[Body]:
    lists = Ragged.from_lists([["tag-1"], *[[]] * (rows - 1)], object)
    words = Ragged.from_lists([["art"]] * rows, object)
    return [
        tensor("user", "INT64", [7] * rows),
        *ragged("history", "INT64", Ragged.from_lists([[101, 102, 103]] * rows)),
        *ragged("interests", "BYTES", words),
        tensor("item", "INT64", [100 + row for row in range(rows)]),
        *ragged("tags", "BYTES", lists),
        tensor("match", "FP32", [0.5] * rows),
    ]


def _with(name: str, change: Body) -> list[Body]:
    return [given | change if given["name"] == name else given for given in rank_inputs(3)]


WRONG_TENSORS: dict[str, tuple[list[Body], str]] = {
    "far too long": (
        [
            *(given for given in rank_inputs(3) if not given["name"].startswith("history.")),
            tensor("history.values", "INT64", [101] * (LONGEST_SENT + 1)),
            tensor("history.offsets", "INT32", [0, LONGEST_SENT + 1]),
        ],
        r"history\.values: a list is too long",
    ),
    "no offsets": ([g for g in rank_inputs(3) if g["name"] != "history.offsets"], r"history\.offsets: required"),
    "offsets": (_with("history.offsets", {"data": [0, 2]}), r"history\.offsets: offsets do not fit"),
    "weights for max": (
        [
            *rank_inputs(3),
            tensor("tags.values", "BYTES", ["tag-1"]),
            tensor("tags.offsets", "INT32", [0, 1, 1, 1]),
            tensor("tags.weights", "FP32", [1.0]),
        ],
        r"tags\.weights: takes no weights: it is pooled by max",
    ),
    "weights not finite": (_with("interests.weights", {"data": [1e39, 1, 1]}), r"interests\.weights: must be finite"),
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_prepare_names_the_tensor_when_a_list_is_wrong(model: ServedModel, name: str) -> None:
    inputs, message = WRONG_TENSORS[name]
    with pytest.raises(BadRequest, match=message):
        infer(oip_models(model, max_candidates=20)["history.rank"], inputs)


def test_prepare_refuses_before_it_decodes_when_a_history_announces_far_too_many_values(model: ServedModel) -> None:
    many = {"name": "history.values", "datatype": "INT64", "shape": [LONGEST_SENT + 100], "data": []}
    with pytest.raises(PayloadTooLarge, match=r"history\.values: too many values"):
        infer(oip_models(model, max_candidates=20)["history.rank"], [many])

"""Histories, weighted lists and several tasks through the rank endpoint."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.history_served import (
    LONGEST,
    LONGEST_SENT,
    encoded,
    history_body,
    history_transforms,
)
from rankine.catalog import Catalog, catalog_beside
from rankine.errors import BadRequest
from rankine.models.columns import Ragged
from rankine.models.schema import Schema
from rankine.observation.sample import sample_batches
from rankine.serving.config import ServeConfig
from rankine.serving.describe import describe_model
from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel, unknown_item
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Outcome, join
from unit.history_requests import NEVER, Body, history_model, prepare, sigmoid
from unit.numpy_served import as_they_are, expected_logits, served_by_numpy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return history_model(tmp_path_factory.mktemp("model"))


def logits_of(model: ServedModel, body: Body) -> np.ndarray:
    return expected_logits(join([prepare(model, body).work], as_they_are), 2)


@pytest.mark.parametrize("history", [[103, 101, 140], [], [101], list(range(100, 100 + LONGEST)), [999_999, 103]])
def test_rank_body_scores_as_numpy_does_when_it_has_a_history(model: ServedModel, history: list[int]) -> None:
    body: Body = history_body(9)
    body["request"]["history"] = history
    assert np.array_equal(logits_of(model, body), expected_logits(encoded(9, history), 2))


def test_history_keeps_its_newest_values_when_it_is_too_long(model: ServedModel) -> None:
    long = [100 + at % 60 for at in range(LONGEST_SENT)]
    body: Body = history_body(3)
    body["request"]["history"] = long
    column = prepare(model, body).work.request["history"]
    assert isinstance(column, Ragged)
    assert column.offsets.tolist() == [0, LONGEST]
    assert np.array_equal(logits_of(model, body), expected_logits(encoded(3, long[-LONGEST:]), 2))


def test_history_loses_weights_with_its_values_when_it_is_too_long(model: ServedModel) -> None:
    body: Body = history_body(1)
    weights = [0.5 * at for at in range(LONGEST + 3)]
    body["request"]["history"] = {"values": list(range(100, 103 + LONGEST)), "weights": weights}
    column = prepare(model, body).work.request["history"]
    assert isinstance(column, Ragged)
    assert column.weights is not None
    assert column.weights.dtype == np.float32
    assert column.weights.tolist() == weights[3:]


def test_lists_weigh_one_when_others_of_their_column_have_weights(model: ServedModel) -> None:
    column = prepare(model, history_body(5)).work.pair["context"]
    assert isinstance(column, Ragged)
    assert column.offsets.tolist() == [0, 1, 1, 3, 3, 4]
    assert column.weights is not None
    assert column.weights.tolist() == [1, 0.5, 3, 1]


def test_reply_ranks_by_the_expression_and_tells_each_task_when_there_are_two(model: ServedModel) -> None:
    ranking = prepare(model, history_body(20, top_k=7))
    logits = expected_logits(join([ranking.work], as_they_are), 2)
    reply = json.loads(
        RankProtocol(model, max_candidates=50).reply(
            ranking, Outcome(logits, 0, 0, 20, 1, "", "baseline", "numpy"), "r"
        )
    )
    ctr, cvr = sigmoid(logits[:, 0]), sigmoid(logits[:, 1])
    value = ctr * np.sqrt(cvr)
    order = np.argsort(-value, kind="stable")[:7]
    assert reply["ids"] == [100 + at for at in order.tolist()]
    assert reply["scores"] == pytest.approx(value[order].tolist(), rel=1e-6)
    assert list(reply["tasks"]) == ["ctr", "cvr"]
    assert reply["tasks"]["ctr"] == pytest.approx(ctr[order].tolist(), rel=1e-6)
    assert reply["tasks"]["cvr"] == pytest.approx(cvr[order].tolist(), rel=1e-6)
    assert value[order[0]] > value[order[-1]]


WRONG: dict[str, tuple[tuple[str, ...], object, str]] = {
    "history of texts": (("request", "history"), ["a"], r"request\.history\[0\]: .*got str"),
    "one value": (("request", "history"), 101, r"request\.history: .*got int; allowed: a list, or {values, weights}"),
    "far too long": (("request", "history"), [101] * (LONGEST_SENT + 1), r"request\.history: .*length <= 1024"),
    "weighted, far too long": (
        ("request", "history"),
        {"values": [101] * (LONGEST_SENT + 1), "weights": []},
        r"request\.history\.values: .*length <= 1024",
    ),
    "multi-hot too long": (("request", "interests"), ["art"] * 7, r"request\.interests: .*length <= 6"),
    "weighted, too long": (
        ("request", "interests"),
        {"values": ["art"] * 7, "weights": [1] * 7},
        r"request\.interests\.values: .*length <= 6",
    ),
    "fewer weights": (
        ("request", "interests"),
        {"values": ["art", "boats"], "weights": [1]},
        r"request\.interests\.weights: must have one weight a value \(got 1; allowed: 2\)",
    ),
    "no weights": (
        ("request", "interests"),
        {"values": ["art"]},
        r"request\.interests\.weights: required field is missing",
    ),
    "no values": (("request", "interests"), {"weights": []}, r"request\.interests\.values: required"),
    "another key": (
        ("request", "interests"),
        {"values": [], "weight": []},
        r"request\.interests\.weight: unknown field\. Did you mean 'weights'",
    ),
    "text as weight": (("request", "interests"), {"values": ["art"], "weights": ["1"]}, r"interests\.weights\[0\]"),
    "null as weight": (("request", "interests"), {"values": ["art"], "weights": [None]}, r"interests\.weights\[0\]"),
    "weight beyond float32": (("request", "interests"), {"values": ["art"], "weights": [1e39]}, "must be finite"),
    "weights of a row": (
        ("candidates", "features", "context"),
        [[], {"values": [1], "weights": []}, []],
        r"candidates\.features\.context\[1\]\.weights: must have one",
    ),
    "wrong values of a row": (
        ("candidates", "features", "context"),
        [[], {"values": ["x"], "weights": [1]}, []],
        r"context\[1\]\.values\[0\]",
    ),
    "weights for max": (
        ("candidates", "features", "tags"),
        [[], {"values": ["tag-1"], "weights": [1]}, []],
        r"candidates\.features\.tags\[1\]\.weights: takes no weights: it is pooled by max",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_prepare_names_the_field_when_a_list_is_wrong(model: ServedModel, name: str) -> None:
    path, value, message = WRONG[name]
    body: Any = copy.deepcopy(history_body(3))
    at = body
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    with pytest.raises(BadRequest, match=message):
        prepare(model, body)


@pytest.mark.parametrize("section", ["request", "row"])
def test_prepare_names_the_key_when_a_weighted_list_gives_it_twice(model: ServedModel, section: str) -> None:
    raw = json.dumps(history_body(3))
    old, where = {
        "request": ('"weights": [2,', r"request\.interests\.weights"),
        "row": ('"weights": [0.5,', r"candidates\.features\.context\[2\]\.weights"),
    }[section]
    twice = raw.replace(old, f'"weights": [], {old}', 1)
    assert twice != raw
    with pytest.raises(BadRequest, match=f"{where}: the key is given twice"):
        RankProtocol(model, max_candidates=50).prepare(twice.encode(), arrived_s=0.0, deadline_s=NEVER, announced=None)


def test_description_tells_tasks_and_lengths_when_asked(model: ServedModel) -> None:
    told = describe_model(model, ServeConfig(artifact=Path("history")))
    assert told["tasks"] == [{"name": "ctr", "link": "sigmoid"}, {"name": "cvr", "link": "sigmoid"}]
    assert told["ranking"] == "ctr * cvr ** 0.5"
    [history] = [feature for feature in told["features"] if feature["name"] == "history"]
    assert (history["kind"], history["max_length"], history["longest_list"]) == ("sequence", LONGEST, LONGEST_SENT)


def test_examples_are_valid_and_have_histories_when_asked(model: ServedModel) -> None:
    bodies = example_bodies(model, count=20, candidates=5, seed=1, max_candidates=50)
    lengths = {len(body["request"]["history"]) for body in bodies}
    assert max(lengths) > 3
    assert max(lengths) <= LONGEST
    assert all(prepare(model, body).work.rows == 5 for body in bodies)


def test_examples_hold_no_padding_when_the_model_takes_lists_padded(tmp_path: Path) -> None:
    schema = Schema.model_validate(
        {
            "features": [
                {"kind": "sequence", "name": "history", "side": "request", "encoding": {"type": "identity", "size": 3}},
                {"kind": "categorical", "name": "slot", "side": "pair", "encoding": {"type": "identity", "size": 2}},
            ],
            "item_id": "item",
            "call": {
                "arguments": [
                    {"name": "ids", "form": "padded", "feature": "history", "pad": 1},
                    {"name": "slot", "feature": "slot"},
                ]
            },
        }
    )
    padded = served_by_numpy(tmp_path / "padded", type(history_transforms())(schema, {}, {}), None)
    bodies = example_bodies(padded, count=20, candidates=5, seed=1, max_candidates=50)
    assert {value for body in bodies for value in body["request"]["history"]} == {0, 2}
    assert all(prepare(padded, body).work.rows == 5 for body in bodies)


def test_unknown_item_has_an_empty_history_when_it_is_of_the_item() -> None:
    schema = Schema.model_validate(
        {
            "features": [
                {"kind": "categorical", "name": "item", "side": "item"},
                {"kind": "sequence", "name": "viewers", "side": "item"},
            ],
            "item_id": "item",
        }
    )
    fitted = type(history_transforms()).fit(
        schema, {"item": np.arange(3), "viewers": Ragged.from_lists([[1], [2], [3, 4]])}
    )
    viewers = unknown_item(fitted)["viewers"]
    assert isinstance(viewers, Ragged)
    assert viewers.offsets.tolist() == [0, 0]


def test_sample_batches_draw_full_histories_when_an_engine_is_timed(model: ServedModel) -> None:
    batch = sample_batches(model.artifact, Catalog.open(catalog_beside(model.artifact.path)), [4])[4]
    history, context = batch.request["history"], batch.pair["context"]
    assert isinstance(history, Ragged)
    assert isinstance(context, Ragged)
    assert history.offsets.tolist() == [0, LONGEST]
    assert context.offsets.tolist() == [0, 3, 6, 9, 12]
    assert expected_logits(batch, 2).shape == (4, 2)

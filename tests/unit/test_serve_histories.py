"""Histories, weighted lists, several tasks and models without item features, through both protocols."""

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
    no_item_transforms,
    raw_batch,
    write_history_catalog,
)
from rankine.errors import BadRequest, PayloadTooLarge, UsageError
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, Schema, Task
from rankine.observation.sample import sample_batches
from rankine.serving.config import ServeConfig
from rankine.serving.describe import describe_model
from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel, unknown_item
from rankine.serving.protocols.oip import OipModel, oip_models
from rankine.serving.protocols.rank import Ranking, RankProtocol
from rankine.serving.scores import Scorer
from rankine.serving.work import Outcome, join
from unit.numpy_served import expected_logits, served_by_numpy

Body = dict[str, Any]
NEVER = float("inf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    folder = tmp_path_factory.mktemp("model")
    return served_by_numpy(folder / "history", history_transforms(), write_history_catalog(folder / "history"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return served_by_numpy(tmp_path_factory.mktemp("model") / "plain", no_item_transforms(), None)


def prepare(model: ServedModel, body: Body) -> Ranking:
    protocol = RankProtocol(model, max_candidates=50)
    return protocol.prepare(json.dumps(body).encode(), arrived_s=0.0, deadline_s=NEVER, announced=None)


def logits_of(model: ServedModel, body: Body) -> np.ndarray:
    return expected_logits(join([prepare(model, body).work], model.items), 2)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


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
    logits = expected_logits(join([ranking.work], model.items), 2)
    reply = json.loads(RankProtocol(model, max_candidates=50).reply(ranking, Outcome(logits, 0, 0, 20, 1, ""), "r"))
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


# --- Open Inference Protocol


def _tensor(name: str, datatype: str, values: np.ndarray | list[Any]) -> Body:
    array = np.asarray(values, object)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def _ragged(name: str, datatype: str, column: Any, *, weighted: bool = True) -> list[Body]:
    values = [value.decode() if isinstance(value, bytes) else value for value in column.values.tolist()]
    found = [_tensor(f"{name}.values", datatype, values), _tensor(f"{name}.offsets", "INT32", column.offsets)]
    if weighted and column.weights is not None:
        found.append(_tensor(f"{name}.weights", "FP32", column.weights))
    return found


def rank_inputs(rows: int, history: list[int] | None = None) -> list[Body]:
    """The tensors of ``history_body(rows)``."""
    request, pair = raw_batch(rows, history)
    return [
        _tensor("ids", "INT64", [100 + row for row in range(rows)]),
        _tensor("user", "INT64", [7]),
        *_ragged("history", "INT64", request["history"]),
        *_ragged("interests", "BYTES", request["interests"]),
        *_ragged("context", "INT64", pair["context"]),
        _tensor("match", "FP32", np.asarray(pair["match"]).tolist()),
    ]


def infer(target: OipModel, inputs: list[Body], **more: Any) -> Any:
    raw = json.dumps({"inputs": inputs, **more}).encode()
    return target.prepare(raw, header_bytes=None, arrived_s=0.0, deadline_s=NEVER)


@pytest.mark.parametrize("history", [None, [], [100 + at % 60 for at in range(100)]])
def test_tensors_give_the_same_work_as_the_rank_endpoint_when_values_are_the_same(
    model: ServedModel, history: list[int] | None
) -> None:
    got = infer(oip_models(model, max_candidates=20)["history.rank"], rank_inputs(9, history))
    assert np.array_equal(expected_logits(join([got.work], model.items), 2), expected_logits(encoded(9, history), 2))


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
    body, _ = target.reply(infer(target, rank_inputs(3), parameters={"top_k": 2}), Outcome(logits, 0, 0, 3, 1, ""))
    outputs = {output["name"]: output for output in json.loads(body)["outputs"]}
    order = np.argsort(-value)[:2]
    assert outputs["ids"]["data"] == (100 + order).tolist()
    assert outputs["scores"]["data"] == pytest.approx(value[order].tolist(), rel=1e-6)
    assert outputs["logits"]["shape"] == [2, 2]
    assert outputs["logits"]["data"] == logits[order].ravel().tolist()
    assert outputs["scores.cvr"]["data"] == pytest.approx(sigmoid(logits[order, 1]).tolist(), rel=1e-6)
    flat = oip_models(model, max_candidates=20)["history"]
    wanted = [{"name": "scores.ctr"}, {"name": "scores"}]
    body, _ = flat.reply(infer(flat, flat_inputs(3), outputs=wanted), Outcome(logits, 0, 0, 3, 1, ""))
    first, second = json.loads(body)["outputs"]
    assert first["data"] == pytest.approx(sigmoid(logits[:, 0]).tolist(), rel=1e-6)
    assert second["data"] == pytest.approx(value.tolist(), rel=1e-6)


def flat_inputs(rows: int) -> list[Body]:
    lists = Ragged.from_lists([["tag-1"], *[[]] * (rows - 1)], object)
    words = Ragged.from_lists([["art"]] * rows, object)
    return [
        _tensor("user", "INT64", [7] * rows),
        *_ragged("history", "INT64", Ragged.from_lists([[101, 102, 103]] * rows)),
        *_ragged("interests", "BYTES", words),
        _tensor("item", "INT64", [100 + row for row in range(rows)]),
        *_ragged("tags", "BYTES", lists),
        _tensor("match", "FP32", [0.5] * rows),
    ]


def _with(name: str, change: Body) -> list[Body]:
    return [given | change if given["name"] == name else given for given in rank_inputs(3)]


WRONG_TENSORS: dict[str, tuple[list[Body], str]] = {
    "far too long": (
        [
            *(given for given in rank_inputs(3) if not given["name"].startswith("history.")),
            _tensor("history.values", "INT64", [101] * (LONGEST_SENT + 1)),
            _tensor("history.offsets", "INT32", [0, LONGEST_SENT + 1]),
        ],
        r"history\.values: a list is too long",
    ),
    "no offsets": ([g for g in rank_inputs(3) if g["name"] != "history.offsets"], r"history\.offsets: required"),
    "offsets": (_with("history.offsets", {"data": [0, 2]}), r"history\.offsets: offsets do not fit"),
    "weights for max": (
        [
            *rank_inputs(3),
            _tensor("tags.values", "BYTES", ["tag-1"]),
            _tensor("tags.offsets", "INT32", [0, 1, 1, 1]),
            _tensor("tags.weights", "FP32", [1.0]),
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


# --- models without item features


def no_item_body(ids: list[int]) -> Body:
    features = {"slot": [at % 4 for at in range(len(ids))], "match": [0.1 * at for at in range(len(ids))]}
    return {"request": {"user": 3}, "candidates": {"ids": ids, "features": features}}


def test_any_id_is_ranked_when_the_model_reads_nothing_of_an_item(plain: ServedModel) -> None:
    ids = [-5, 2**62, 7, 7]
    ranking = prepare(plain, no_item_body(ids))
    assert ranking.work.item_index.tolist() == [0, 1, 2, 3]
    logits = expected_logits(join([ranking.work], plain.items))
    reply = json.loads(RankProtocol(plain, max_candidates=9).reply(ranking, Outcome(logits, 0, 0, 4, 1, ""), "r"))
    assert sorted(reply["ids"]) == sorted(ids)
    assert reply["generation"] == 0
    assert "tasks" not in reply


def test_works_are_joined_when_the_model_reads_nothing_of_an_item(plain: ServedModel) -> None:
    works = [prepare(plain, no_item_body(list(range(rows)))).work for rows in (2, 3)]
    flat = [_tensor("user", "INT64", [3, 4]), _tensor("slot", "INT64", [0, 1]), _tensor("match", "FP32", [0.5, 1])]
    works.append(infer(oip_models(plain, max_candidates=9)["plain"], flat).work)
    together = expected_logits(join(works, plain.items))
    assert np.allclose(together, np.concatenate([expected_logits(join([work], plain.items)) for work in works]))


def test_examples_name_items_when_there_is_no_catalog(plain: ServedModel) -> None:
    [body] = example_bodies(plain, count=1, candidates=4, seed=0, max_candidates=9)
    assert prepare(plain, body).work.rows == 4
    assert describe_model(plain, ServeConfig(artifact=Path("plain")))["items"] == 0


def test_sample_batches_draw_full_histories_when_an_engine_is_timed(model: ServedModel) -> None:
    batch = sample_batches(model.artifact, model.catalog, [4])[4]
    history, context = batch.request["history"], batch.pair["context"]
    assert isinstance(history, Ragged)
    assert isinstance(context, Ragged)
    assert history.offsets.tolist() == [0, LONGEST]
    assert context.offsets.tolist() == [0, 3, 6, 9, 12]
    assert expected_logits(batch, 2).shape == (4, 2)


def test_sample_batches_need_a_catalog_only_when_the_model_reads_items(model: ServedModel, plain: ServedModel) -> None:
    assert np.isfinite(expected_logits(sample_batches(plain.artifact, None, [5])[5])).all()
    with pytest.raises(UsageError, match="there are no items to draw from"):
        sample_batches(model.artifact, None, [5])


# --- scores


def _schema(ranking: str | None, *links: str) -> Schema:
    tasks = [{"name": name, "label": f"is_{name}", "link": link} for name, link in zip("abc", links, strict=False)]
    return Schema(
        features=(CategoricalFeature(name="user", side="request"),),
        item_id="item",
        tasks=tuple(Task.model_validate(task) for task in tasks),
        ranking=ranking,
    )


LOGITS = np.array([[60.0, 1.0], [80.0, 3.0], [-2.0, 2.0]], np.float32)


@pytest.mark.parametrize(
    ("schema", "order", "ranking"),
    [
        (_schema(None, "sigmoid"), [1, 0, 2], [1, 1, 0.1192029]),
        (_schema(None, "identity"), [1, 0, 2], [80, 60, -2]),
        (_schema("-a", "identity"), [2, 0, 1], [2, -60, -80]),
        (_schema(None, "sigmoid", "identity"), [1, 0, 2], [1, 1, 0.1192029]),
        (_schema("b", "sigmoid", "identity"), [1, 2, 0], [3, 2, 1]),
        (_schema("a + 10 * b", "sigmoid", "identity"), [1, 2, 0], [31, 20.1192029, 11]),
    ],
)
def test_scores_follow_links_and_ranking_when_logits_saturate(
    schema: Schema, order: list[int], ranking: list[float]
) -> None:
    scorer = Scorer(schema)
    logits = LOGITS[:, : len(schema.tasks)]
    best, scores = scorer.best(logits, 3)
    assert best.tolist() == order
    assert scores.ranking.tolist() == pytest.approx(ranking, rel=1e-6)
    assert scorer.best(logits, 2)[0].tolist() == order[:2]
    assert scorer.scores(logits).ranking[best].tolist() == pytest.approx(ranking, rel=1e-6)
    assert list(scores.tasks) == (["a", "b"] if len(schema.tasks) > 1 else [])
    for at, name in enumerate(scores.tasks):
        raw = logits[best, at].astype(np.float64)
        linked = sigmoid(raw) if schema.tasks[at].link == "sigmoid" else raw
        assert scores.tasks[name].tolist() == pytest.approx(linked.tolist(), rel=1e-6)


def test_rows_keep_their_order_when_the_expression_ranks_them_alike() -> None:
    best, _ = Scorer(_schema("a * 0", "sigmoid", "sigmoid")).best(np.zeros((5, 2), np.float32), 4)
    assert best.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("expression", ["a / b", "log(b)", "exp(a * 100)", "(b - 1) ** 0.5"])
def test_scorer_refuses_when_the_ranking_has_no_finite_value(expression: str) -> None:
    scorer = Scorer(_schema(expression, "identity", "identity"))
    logits = np.array([[1.0, 1.0], [2.0, 0.0]], np.float32)
    for call in (lambda: scorer.best(logits, 2), lambda: scorer.scores(logits)):
        with pytest.raises(BadRequest, match=r"the ranking has no finite value.*a [12], b [01]"):
            call()

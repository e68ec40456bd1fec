"""Histories, weighted lists, two tasks and no items at all, over HTTP and with real engines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from e2e.history_served import ITEMS, LONGEST, encoded, history_body, no_item_transforms
from e2e.serve_process import ServerProcess
from rankine.artifact import Artifact
from rankine.compilation.verify import reference_logits
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, load_model
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e
RANK = "/v1/rank"
ROWS = 50
HISTORIES: dict[str, list[int]] = {
    "short": [103, 101, 140],
    "empty": [],
    "full": [100 + at for at in range(LONGEST)],
    "too long": [100 + at % ITEMS for at in range(1000)],
    "unknown items": [999_999, 5, 101],
}


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _tasks(config: ServeConfig, history: list[int]) -> np.ndarray:
    """Scores ``(ROWS, 2)`` of the good body with another history: the graph in float64, over NumPy's lookup."""
    model = load_model(Artifact.open(config.artifact), BASELINE)
    return _sigmoid(reference_logits(model, encoded(ROWS, history[-LONGEST:])))


@pytest.mark.parametrize("name", HISTORIES)
def test_rank_gives_numpy_s_scores_when_the_history_is(
    history_server: ServerProcess, history_config: ServeConfig, name: str
) -> None:
    body: Any = history_body(ROWS)
    body["request"]["history"] = HISTORIES[name]
    answer = history_server.ask("POST", RANK, body)
    assert answer.status == 200, answer.body
    tasks = _tasks(history_config, HISTORIES[name])
    value = tasks[:, 0] * np.sqrt(tasks[:, 1])
    rows = np.array(answer.json["ids"]) - 100
    assert sorted(rows.tolist()) == list(range(ROWS))
    assert answer.json["scores"] == pytest.approx(value[rows].tolist(), rel=1e-5)
    assert answer.json["tasks"]["ctr"] == pytest.approx(tasks[rows, 0].tolist(), rel=1e-5)
    assert answer.json["tasks"]["cvr"] == pytest.approx(tasks[rows, 1].tolist(), rel=1e-5)
    assert answer.json["scores"] == sorted(answer.json["scores"], reverse=True)


def test_scores_change_when_only_the_history_or_only_a_weight_does(history_server: ServerProcess) -> None:
    bodies: list[Any] = [history_body(1) for _ in range(4)]
    bodies[1]["request"]["history"] = [103, 101, 141]
    bodies[2]["request"]["interests"]["weights"] = [2, 0.25, 4]
    bodies[3]["request"]["interests"] = ["art", "chess", "boats"]
    scores = [history_server.ask("POST", RANK, body).json["scores"][0] for body in bodies]
    assert len(set(scores)) == 4


def test_rank_gives_each_its_own_answer_when_histories_are_batched(history_server: ServerProcess) -> None:
    bodies: list[Any] = [history_body(3 + at) for at in range(30)]
    for at, body in enumerate(bodies):
        body["request"]["history"] = [100 + (7 * at + place) % ITEMS for place in range(at % 12)]
        if at % 3 == 0:
            body["request"]["history"] = {"values": body["request"]["history"], "weights": [0.5] * (at % 12)}
    alone = [history_server.ask("POST", RANK, body).json for body in bodies]
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(lambda body: history_server.ask("POST", RANK, body).json, bodies))
    for one, other in zip(alone, together, strict=True):
        first, second = (dict(zip(reply["ids"], reply["scores"], strict=True)) for reply in (one, other))
        assert [second[key] for key in first] == pytest.approx(list(first.values()), rel=1e-5)


def test_examples_are_answered_when_the_schema_has_histories(history_server: ServerProcess) -> None:
    examples = history_server.ask("GET", "/v1/models/history/examples?count=5&candidates=20").json["examples"]
    assert len(examples) == 5
    for example in examples:
        assert len(history_server.ask("POST", RANK, example).json["tasks"]["cvr"]) == 20


def test_any_id_is_ranked_when_the_model_reads_nothing_of_an_item(no_item_server: ServerProcess) -> None:
    ids = [-7, 2**60, 12, 12]
    features = {"slot": [0, 1, 2, 3], "match": [0.5, 0.25, 1, 0]}
    body = {"request": {"user": 3}, "candidates": {"ids": ids, "features": features}}
    answer = no_item_server.ask("POST", RANK, body)
    assert answer.status == 200, answer.body
    assert answer.json["generation"] == 0
    artifact = no_item_server.ask("GET", "/v1/models/plain").json
    assert artifact["items"] == 0
    assert sorted(answer.json["ids"]) == sorted(ids)
    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda _: no_item_server.ask("POST", RANK, body).json["scores"], range(30)))
    assert all(each == pytest.approx(scores[0], rel=1e-5) for each in scores)


def test_scores_are_numpy_s_when_the_model_reads_nothing_of_an_item(
    no_item_server: ServerProcess, no_item_artifact: Artifact
) -> None:
    fitted = no_item_transforms()
    features = {"slot": [0, 1, 2, 3], "match": [0.5, 0.25, 1, 0]}
    body = {"request": {"user": 3}, "candidates": {"ids": [1, 2, 3, 4], "features": features}}
    reply = no_item_server.ask("POST", RANK, body).json
    pair = {"slot": np.arange(4), "match": np.array([0.5, 0.25, 1, 0], np.float32)}
    batch = Batch(
        fitted.encode(fitted.schema.request_features, {"user": np.array([3])}), {},
        fitted.encode(fitted.schema.row_features, pair), np.zeros(4, np.int32), np.arange(4, dtype=np.int32),
    )  # fmt: skip
    expected = _sigmoid(reference_logits(load_model(no_item_artifact, BASELINE), batch))[:, 0]
    assert reply["scores"] == pytest.approx(expected[np.array(reply["ids"]) - 1].tolist(), rel=1e-5)

"""Scores from logits: links, the ranking expression, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.errors import BadRequest
from rankine.models.schema import CategoricalFeature, Schema, Task
from rankine.serving.scores import Scorer
from unit.history_requests import sigmoid


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

"""Models that read nothing of an item: ranked, joined, described and sampled without a catalog."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankine.errors import UsageError
from rankine.observation.sample import sample_batches
from rankine.serving.config import ServeConfig
from rankine.serving.describe import describe_model
from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel
from rankine.serving.protocols.oip import oip_models
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Outcome, join
from unit.history_requests import Body, history_model, infer, plain_model, prepare, tensor
from unit.numpy_served import as_they_are, expected_logits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return history_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return plain_model(tmp_path_factory.mktemp("model"))


def no_item_body(ids: list[int]) -> Body:
    features = {"slot": [at % 4 for at in range(len(ids))], "match": [0.1 * at for at in range(len(ids))]}
    return {"request": {"user": 3}, "candidates": {"ids": ids, "features": features}}


def test_any_id_is_ranked_when_the_model_reads_nothing_of_an_item(plain: ServedModel) -> None:
    ids = [-5, 2**62, 7, 7]
    ranking = prepare(plain, no_item_body(ids))
    assert ranking.work.item_index.tolist() == [0, 1, 2, 3]
    logits = expected_logits(join([ranking.work], as_they_are))
    reply = json.loads(
        RankProtocol(plain, max_candidates=9).reply(ranking, Outcome(logits, 0, 0, 4, 1, "", "baseline", "numpy"), "r")
    )
    assert sorted(reply["ids"]) == sorted(ids)
    assert reply["generation"] == 0
    assert "tasks" not in reply


def test_works_are_joined_when_the_model_reads_nothing_of_an_item(plain: ServedModel) -> None:
    works = [prepare(plain, no_item_body(list(range(rows)))).work for rows in (2, 3)]
    flat = [tensor("user", "INT64", [3, 4]), tensor("slot", "INT64", [0, 1]), tensor("match", "FP32", [0.5, 1])]
    works.append(infer(oip_models(plain, max_candidates=9)["plain"], flat).work)
    together = expected_logits(join(works, as_they_are))
    assert np.allclose(together, np.concatenate([expected_logits(join([work], as_they_are)) for work in works]))


def test_examples_name_items_when_there_is_no_catalog(plain: ServedModel) -> None:
    [body] = example_bodies(plain, count=1, candidates=4, seed=0, max_candidates=9)
    assert prepare(plain, body).work.rows == 4
    assert describe_model(plain, ServeConfig(artifact=Path("plain")))["items"] == 0


def test_sample_batches_need_a_catalog_only_when_the_model_reads_items(model: ServedModel, plain: ServedModel) -> None:
    assert np.isfinite(expected_logits(sample_batches(plain.artifact, None, [5])[5])).all()
    with pytest.raises(UsageError, match="there are no items to draw from"):
        sample_batches(model.artifact, None, [5])

"""The server's switch: a variant that was built in parts, served as the whole graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from e2e.small_served import ENGINE, rank_body, write_small_artifact, write_small_catalog
from rankine.artifact import Artifact
from rankine.compilation.compile import open_runner
from rankine.compilation.engine import Runner
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE
from rankine.serving import ServeConfig
from rankine.serving.model import ServedModel, open_model
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import join

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("whole") / "small"
    write_small_catalog(path)
    return write_small_artifact(path)


def joined(model: ServedModel) -> Batch:
    protocol = RankProtocol(model, max_candidates=500)
    body = json.dumps(rank_body(40)).encode()
    work = protocol.prepare(body, arrived_s=0.0, deadline_s=9e9, announced=None).work
    return join([work], model.runner.complete)


def logits(batch: Batch, runner: Runner) -> np.ndarray:
    out = np.full((batch.rows, 1), np.nan, np.float32)
    runner.run(batch, out)
    return out


def stored(batch: Batch) -> list[str]:
    return [name for name in batch.item if name.startswith("rankine.")]


@pytest.mark.parametrize("split", [False, True])
def test_server_runs_the_form_that_was_asked_for_when_split_is_switched(artifact: Artifact, split: bool) -> None:
    model = open_model(ServeConfig(artifact=Path(artifact.path), allow_uncertified=True, split=split))
    batch = joined(model)
    assert bool(stored(batch)) == split
    alone = open_runner(artifact, BASELINE, ENGINE, split=split)
    assert np.array_equal(logits(batch, model.runner), logits(batch, alone))
    other = open_runner(artifact, BASELINE, ENGINE, split=not split)
    assert np.allclose(logits(batch, other), logits(batch, alone), atol=1e-4)

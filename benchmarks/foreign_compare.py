"""A model that was brought in against its own ``predict``: on an engine, and over HTTP from a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from foreign_movielens import Prepared
from foreign_zoo import DENSE, GENRES, HISTORY, HISTORY_LENGTH
from render_foreign_models import EngineResult

from rankine.artifact import Artifact
from rankine.certification.plan import certified_pairs
from rankine.compilation.compile import open_runner
from rankine.data.dataset import Dataset
from rankine.demo.servers import running_server
from rankine.models.columns import Batch
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE

__all__ = ["ITEM_SIDE", "compare", "own_scores"]

ITEM_SIDE = ("movie", "year", DENSE, GENRES)
_ROWS, _BATCH_ROWS = 4096, 512
_USERS, _CANDIDATES = 3, 200
_TIMEOUT_S = 30


def own_scores(model: Any, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The library's own predictions, ``(rows, tasks)``."""
    return np.asarray(model.predict({name: columns[name] for name in model.feature_index}, 1024))


def compare(
    artifact: Artifact, catalog: Path, engine: str, model: Any, prepared: Prepared, dataset: Dataset
) -> EngineResult:
    """Hold the baseline of ``artifact`` on ``engine`` against ``model``.

    Args:
        dataset: the held-out rows of ``prepared``, in their order.
    """
    schema = artifact.read_json("schema.json", Schema)
    rows = prepared.held_out[:_ROWS]
    batch = dataset.encode(Transforms.read(artifact)).select(slice(0, len(rows)))
    own = own_scores(model, prepared.at(rows))
    logits = _run(artifact, engine, batch)
    sigmoid = np.array([task.link == "sigmoid" for task in schema.tasks])
    own_logits = np.where(sigmoid, np.log(own / (1 - own)), own)
    scores = np.where(sigmoid, 1 / (1 + np.exp(-logits)), logits)

    served, in_order = [], True
    certified = (BASELINE, engine) in certified_pairs(artifact)
    cores = sorted(os.sched_getaffinity(0))
    with running_server(
        artifact.path, variant=BASELINE, engine=engine, catalog=catalog, cores=cores, certified=certified
    ) as url:
        for user in range(_USERS):
            differences, ordered = _rank(url, schema, model, prepared, user)
            served.append(differences)
            in_order &= ordered
    return EngineResult(
        engine=engine,
        rows=len(rows),
        logit_difference=float(np.abs(logits - own_logits).max()),
        score_difference=float(np.abs(scores - own).max()),
        served_scores=sum(differences.size for differences in served),
        served_score_difference=float(max(differences.max() for differences in served)),
        served_in_own_order=in_order,
    )


def _run(artifact: Artifact, engine: str, batch: Batch) -> np.ndarray:
    runner = open_runner(artifact, BASELINE, engine)
    tasks = len(artifact.read_json("schema.json", Schema).tasks)
    out = np.empty((batch.rows, tasks), np.float32)
    for start in range(0, batch.rows, _BATCH_ROWS):
        part = slice(start, min(start + _BATCH_ROWS, batch.rows))
        runner.run(batch.select(part), out[part])
    return out.astype(np.float64)


def _rank(url: str, schema: Schema, model: Any, prepared: Prepared, seed: int) -> tuple[np.ndarray, bool]:
    """One rank request: differences of its scores, and whether its order is the model's own."""
    random = np.random.default_rng(seed)
    user_row = int(random.choice(prepared.held_out))
    _, firsts = np.unique(prepared.movie_id[prepared.held_out], return_index=True)
    candidates = prepared.held_out[random.choice(firsts, _CANDIDATES, replace=False)]
    columns = prepared.at(candidates)
    for name in columns.keys() - set(ITEM_SIDE):
        columns[name] = np.repeat(prepared.columns[name][user_row : user_row + 1], _CANDIDATES, axis=0)
    own = dict(zip(schema.task_names, own_scores(model, columns).T, strict=True))
    ranked_by = schema.ranking_function()(own)
    ids = prepared.movie_id[candidates].tolist()

    body = {"request": _request(schema, prepared, user_row), "candidates": {"ids": ids}}
    reply = _post(f"{url}/v1/rank", body)
    at = np.array([ids.index(item) for item in reply["ids"]])
    differences = [np.asarray(reply["scores"]) - ranked_by[at]]
    differences += [np.asarray(reply["tasks"][name]) - own[name][at] for name in reply.get("tasks", {})]
    # Scores that differ by less than float32 can tell may come in either order.
    ordered = bool((np.diff(ranked_by[at]) <= 1e-6).all()) and len(at) == _CANDIDATES
    return np.abs(np.stack(differences)), ordered


def _request(schema: Schema, prepared: Prepared, row: int) -> dict[str, Any]:
    request = {feature.name: prepared.columns[feature.name][row].tolist() for feature in schema.request_features}
    if HISTORY in request:
        request[HISTORY] = request[HISTORY][: int(prepared.columns[HISTORY_LENGTH][row])]
    return request


def _post(url: str, body: Mapping[str, Any]) -> Any:
    request = Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=_TIMEOUT_S) as reply:
        return json.load(reply)

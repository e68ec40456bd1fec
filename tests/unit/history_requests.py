"""Requests with histories and weighted lists in both protocols, and models that take them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from e2e.history_served import (
    history_transforms,
    no_item_transforms,
    write_history_catalog,
)
from rankine.serving.model import ServedModel
from rankine.serving.protocols.oip import OipModel
from rankine.serving.protocols.rank import Ranking, RankProtocol
from unit.numpy_served import served_by_numpy

Body = dict[str, Any]
NEVER = float("inf")


def history_model(folder: Path) -> ServedModel:
    """A model with histories, weighted lists, two tasks and a catalog, written into ``folder``."""
    return served_by_numpy(folder / "history", history_transforms(), write_history_catalog(folder / "history"))


def plain_model(folder: Path) -> ServedModel:
    """A model that reads nothing of an item, and so has no catalog."""
    return served_by_numpy(folder / "plain", no_item_transforms(), None)


def prepare(model: ServedModel, body: Body) -> Ranking:
    protocol = RankProtocol(model, max_candidates=50)
    return protocol.prepare(json.dumps(body).encode(), arrived_s=0.0, deadline_s=NEVER, announced=None)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def tensor(name: str, datatype: str, values: np.ndarray | list[Any]) -> Body:
    array = np.asarray(values, object)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def ragged(name: str, datatype: str, column: Any, *, weighted: bool = True) -> list[Body]:
    values = [value.decode() if isinstance(value, bytes) else value for value in column.values.tolist()]
    found = [tensor(f"{name}.values", datatype, values), tensor(f"{name}.offsets", "INT32", column.offsets)]
    if weighted and column.weights is not None:
        found.append(tensor(f"{name}.weights", "FP32", column.weights))
    return found


def infer(target: OipModel, inputs: list[Body], **more: Any) -> Any:
    raw = json.dumps({"inputs": inputs, **more}).encode()
    return target.prepare(raw, header_bytes=None, arrived_s=0.0, deadline_s=NEVER)

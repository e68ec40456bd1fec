"""The small model's requests as tensors of the Open Inference Protocol: name, datatype and values of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from e2e.serve_process import ServerProcess
from e2e.small_served import items, rank_body

__all__ = ["ROWS", "flat_values", "rank_values", "ranked"]

ROWS = 150
Values = list[tuple[str, str, np.ndarray]]


def rank_values() -> Values:
    """Those of ``rank_body(ROWS)``."""
    row = np.arange(ROWS)
    return [
        ("ids", "INT64", 1000 + row),
        ("user", "INT64", np.array([7])),
        ("country", "BYTES", _texts("de")),
        ("city", "BYTES", _texts("Köln")),
        ("recent.values", "INT64", np.array([1003, 1005])),
        ("recent.offsets", "INT32", np.array([0, 2], np.int32)),
        ("age", "FP32", np.array([[33.5, 1]], np.float32)),
        ("slot", "INT64", row % 10),
        ("match", "FP32", np.stack([np.full(ROWS, 0.5), 0.25 * (row % 7)], axis=1).astype(np.float32)),
    ]


def flat_values() -> Values:
    """The same rows, with everything about the items given too."""
    row = np.arange(ROWS)
    catalog = items()
    tags: Any = catalog["tags"]
    tags = tags.take(row)
    return [
        ("user", "INT64", np.full(ROWS, 7)),
        ("country", "BYTES", _texts(*["de"] * ROWS)),
        ("city", "BYTES", _texts(*["Köln"] * ROWS)),
        ("recent.values", "INT64", np.tile([1003, 1005], ROWS)),
        ("recent.offsets", "INT32", 2 * np.arange(ROWS + 1, dtype=np.int32)),
        ("age", "FP32", np.tile(np.array([[33.5, 1]], np.float32), (ROWS, 1))),
        ("item", "INT64", 1000 + row),
        ("tags.values", "BYTES", tags.values.astype(np.object_)),
        ("tags.offsets", "INT32", tags.offsets),
        ("price", "FP32", np.asarray(catalog["price"])[:ROWS]),
        *rank_values()[-2:],
    ]


def ranked(server: ServerProcess) -> dict[int, float]:
    """What the rank endpoint says of ``rank_body(ROWS)``: scores by item, best first."""
    reply = server.ask("POST", "/v1/rank", rank_body(ROWS)).json
    return dict(zip(reply["ids"], reply["scores"], strict=True))


def _texts(*values: str) -> np.ndarray:
    return np.array([value.encode() for value in values], np.object_)

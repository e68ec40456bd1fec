"""Random graphs, sides, prices and rows: the split model computes what the model computes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from rankine.compilation.binding import CostModel, Settings, split_graph
from unit.binding_graphs import in_float64, random_graph, random_rows

_GRAPHS = int(os.environ.get("RANKINE_RANDOM_GRAPHS", "200"))
_PER_TEST = 20


@pytest.mark.parametrize("first", range(0, _GRAPHS, _PER_TEST))
def test_split_model_gives_the_same_logits_when_the_graph_is_random(first: int) -> None:
    for seed in range(first, min(first + _PER_TEST, _GRAPHS)):
        model, sides = random_graph(seed)
        random = np.random.default_rng(seed)
        prices = CostModel(catalog_byte=float(random.choice([0, 0.1, 4])), request_byte=float(random.choice([0, 1])))
        limit = None if random.random() < 0.7 else int(random.integers(0, 200))
        split = split_graph(model, sides, Settings(costs=prices, catalog_bytes=limit))
        rows = random_rows(model, sides, int(random.integers(1, 12)), seed)
        (expected,) = in_float64(model, rows.gathered())
        found = rows.split(split, in_float64)
        error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        assert error < 1e-6, f"seed {seed}: {error}"
        assert split.plan.work.candidate <= split.plan.work.before, f"seed {seed}"
        assert limit is None or split.plan.stored_bytes_per_item <= limit, f"seed {seed}"

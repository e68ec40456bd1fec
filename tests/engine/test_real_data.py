"""The real data sets, read whole: their published counts, and nothing of a target in what comes before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankine.data import load_movielens
from rankine.data.behavior import load_behavior
from rankine.data.movielens import MOVIELENS, MOVIELENS_TWO_TASKS
from rankine.models.columns import Ragged


def test_real_movielens_has_its_published_counts_when_read(data_root: Path) -> None:
    data = load_movielens(data_root / "ml-1m")
    assert data.name == "movielens-1m"
    assert (data.rows, len(data.requests["user"]), len(data.item_ids)) == (1_000_209, 6040, 3883)
    assert data.labels.mean() == pytest.approx(0.57516, abs=1e-5)
    parts = data.splits()
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (800_167, 100_021, 100_021)
    rows = data.fit_transforms(parts.train).table_rows()
    assert {name: rows[name] for name in ("user", "gender", "age", "occupation", "genres")} == {
        "user": 6041,
        "gender": 3,
        "age": 8,
        "occupation": 22,
        "genres": 19,
    }
    assert list(rows) == [feature.name for feature in MOVIELENS.features]
    loved = load_movielens(data_root / "ml-1m", MOVIELENS_TWO_TASKS).labels
    assert loved[:, 0].tolist() == data.labels[:, 0].tolist()
    assert loved[:, 1].sum() == 226_310
    assert np.bincount(data.request_index).min() >= 20  # every user of the set has at least twenty ratings


def test_real_beauty_has_its_published_counts_and_no_leak_when_read(data_root: Path) -> None:
    data = load_behavior(data_root / "s3rec-beauty")
    assert data.name == "s3rec-beauty"
    assert data.provenance["interactions"] == "198502"
    assert (len(data.requests["history"]), len(data.item_ids)) == (198_502 - 22_363, 12_101)
    parts = data.splits()
    assert len(parts.validation) == len(parts.test) == 22_363 * 51
    assert data.labels[parts.train].mean() == pytest.approx(0.2)
    assert data.labels.sum() == 198_502 - 22_363
    history = data.requests["history"]
    assert isinstance(history, Ragged)
    target = data.item_ids[data.item_index[data.labels[:, 0] == 1]]
    assert not (history.values == np.repeat(target, np.diff(history.offsets))).any()
    assert np.diff(history.offsets).max() == 50

"""The planted data set: what is promised of it holds for several seeds."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.data import Dataset, make_synthetic
from rankine.data.synthetic import SYNTHETIC
from rankine.errors import UsageError
from rankine.metrics import auc
from rankine.models.columns import Column, Ragged, take


def arrays(columns: dict[str, Column]) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if isinstance(column, Ragged):
            flat[f"{name}.values"], flat[f"{name}.offsets"] = column.values, column.offsets
        else:
            flat[name] = column
    return flat


def contents(data: Dataset) -> dict[str, np.ndarray]:
    rest = {"request_index": data.request_index, "item_index": data.item_index, "labels": data.labels}
    return {**arrays({**data.requests, **data.items}), **rest}


def test_data_is_equal_when_the_seed_is_equal_and_differs_when_not() -> None:
    first, again, other = (contents(make_synthetic(3000, users=50, items=40, seed=seed)) for seed in (5, 5, 6))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["labels"], other["labels"])
    assert not np.array_equal(first["tags.values"], other["tags.values"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_base_rate_and_best_auc_are_as_promised_when_large(seed: int) -> None:
    data = make_synthetic(50_000, users=500, items=300, seed=seed)
    assert data.best_auc is not None
    assert 0.79 < data.best_auc < 0.815
    assert 0.29 < data.labels.mean() < 0.31


def test_columns_are_those_of_the_schema_when_made() -> None:
    data = make_synthetic(2000, users=30, items=20, seed=0)
    assert [*data.requests, *data.items] == [feature.name for feature in SYNTHETIC.features]
    data.check()
    assert data.labels.shape == (2000, 1)
    batch = data.encode(data.fit_transforms(data.splits().train))
    assert batch.rows == data.rows == 2000
    assert (np.diff(data.request_index) >= 0).all()
    assert data.groups is not None
    assert data.groups.tolist() == take(data.requests, data.request_index)["user"].tolist()  # type: ignore[union-attr]


def test_a_user_has_one_age_and_country_when_seen_in_many_contexts() -> None:
    data = make_synthetic(8000, users=20, items=20, seed=0)
    columns = arrays({name: data.requests[name] for name in ("user", "age", "country", "device")})
    people = set(zip(columns["user"].tolist(), columns["age"].tolist(), columns["country"].tolist(), strict=True))
    assert len(people) == len(set(columns["user"].tolist()))
    assert len(set(zip(columns["user"].tolist(), columns["device"].tolist(), strict=True))) > len(people)


def test_tags_vary_in_length_without_repeats_when_drawn() -> None:
    tags = make_synthetic(1000, users=10, items=500, seed=0).items["tags"]
    assert isinstance(tags, Ragged)
    bounds = zip(tags.offsets[:-1], tags.offsets[1:], strict=True)
    rows = [tags.values[start:end].tolist() for start, end in bounds]
    assert {len(row) for row in rows} == {0, 1, 2, 3, 4, 5}
    assert all(len(set(row)) == len(row) for row in rows)


def test_popularity_falls_as_zipf_when_items_are_ranked() -> None:
    data = make_synthetic(200_000, users=100, items=1000, seed=0)
    counts = np.sort(np.bincount(data.item_index, minlength=1000))[::-1]
    slope = np.polyfit(np.log(np.arange(1, 201)), np.log(counts[:200]), 1)[0]
    assert slope == pytest.approx(-0.9, abs=0.05)
    assert np.corrcoef(np.bincount(data.item_index), data.item_ids)[0, 1] < 0.2  # ids do not tell popularity


def test_fields_alone_are_learnable_when_averaged_on_training_rows() -> None:
    """A naive Bayes over single features, far weaker than a ranking model, is already well above chance."""
    data = make_synthetic(40_000, users=400, items=200, seed=3)
    parts = data.splits()
    batch = data.encode(data.fit_transforms(parts.train))
    logits = np.zeros(data.rows)
    for columns, index in ((batch.request, batch.request_index), (batch.item, batch.item_index)):
        for column in columns.values():
            if isinstance(column, np.ndarray) and column.dtype == np.int32:
                ids = column[index]
                seen = np.bincount(ids[parts.train], minlength=ids.max() + 1)
                positive = np.bincount(ids[parts.train], data.labels[parts.train, 0], minlength=ids.max() + 1)
                rate = (positive + 3) / (seen + 10)
                logits += np.log(rate / (1 - rate))[ids]
    assert auc(data.labels[parts.test, 0], logits[parts.test]) > 0.68


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rows", (999, 10, 10, 0)),
        ("users", (1000, 1, 10, 0)),
        ("items", (1000, 10, 1, 0)),
        ("seed", (1000, 10, 10, -1)),
    ],
)
def test_arguments_are_refused_with_the_name_when_too_small(name: str, arguments: tuple[int, int, int, int]) -> None:
    rows, users, items, seed = arguments
    with pytest.raises(UsageError, match=f"{name}: is too small"):
        make_synthetic(rows, users=users, items=items, seed=seed)

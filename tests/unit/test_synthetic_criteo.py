"""The planted set in Criteo's shape: what its schema, its sides, its labels and its drift promise."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.data import load_dataset
from rankine.data.dataset import Dataset
from rankine.data.synthetic_criteo import criteo_shape, make_synthetic_criteo
from rankine.errors import UsageError
from rankine.metrics import auc
from rankine.models.columns import take
from rankine.models.schema import Split


@pytest.fixture(scope="module")
def made() -> Dataset:
    return make_synthetic_criteo(60_000, seed=0, values=500)


def test_schema_has_the_shape_and_the_sides_when_read() -> None:
    schema = criteo_shape()
    kinds = [feature.kind for feature in schema.features]
    assert (kinds.count("dense"), kinds.count("categorical"), len(kinds)) == (13, 26, 39)
    assert len(schema.of_side("request")) == 15
    assert len(schema.of_side("item")) == 16
    assert len(schema.row_features) == 8
    assert {feature.kind for feature in schema.row_features} == {"dense", "categorical"}
    assert (schema.split.by, schema.group, schema.item_id) == ("time", "C1", "C14")


def test_columns_are_those_of_the_schema_when_made(made: Dataset) -> None:
    made.check()
    assert set(made.requests) == {feature.name for feature in made.schema.request_features}
    assert set(made.items) == {feature.name for feature in made.schema.catalog_features}
    assert set(made.pairs) == {feature.name for feature in made.schema.row_features}
    transforms = made.fit_transforms(made.splits().train)
    assert transforms.table_rows() == {f"C{number}": 500 for number in range(1, 27)}
    assert made.encode(transforms).rows == made.rows == 60_000
    assert made.labels.shape == (60_000, 1)


def test_tables_have_twenty_thousand_rows_when_nothing_else_is_asked_for() -> None:
    data = load_dataset("synthetic-criteo", rows=1000, seed=3)
    assert set(data.fit_transforms(np.arange(1000)).table_rows().values()) == {20_000}
    assert (data.rows, data.provenance["seed"]) == (1000, "3")


def test_data_is_equal_when_the_seed_is_equal_and_differs_when_not() -> None:
    first, again, other = (make_synthetic_criteo(2000, seed=seed, values=50) for seed in (5, 5, 6))
    for side in ("requests", "items", "pairs"):
        columns = getattr(first, side)
        assert all(np.array_equal(columns[name], getattr(again, side)[name]) for name in columns)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize("seed", [0, 1])
def test_base_rate_and_best_auc_are_as_promised_when_large(seed: int) -> None:
    data = make_synthetic_criteo(50_000, seed=seed, values=500)
    assert data.best_auc is not None
    assert 0.79 < data.best_auc < 0.83
    assert 0.24 < data.labels.mean() < 0.26


def test_a_request_has_one_user_and_one_time_when_it_has_many_rows(made: Dataset) -> None:
    assert made.groups is not None
    assert made.timestamps is not None
    assert (np.diff(made.request_index) >= 0).all()
    assert (np.diff(made.timestamps) >= 0).all()
    pairs = set(zip(made.request_index.tolist(), made.groups.tolist(), made.timestamps.tolist(), strict=True))
    assert len(pairs) == len(set(made.request_index.tolist()))
    assert made.groups.tolist() == np.asarray(take(made.requests, made.request_index)["C1"]).tolist()
    assert made.rows / len(pairs) == pytest.approx(8, rel=0.01)


def test_a_user_has_one_value_of_a_field_when_seen_in_many_requests(made: Dataset) -> None:
    user, constant, changing = (np.asarray(made.requests[name]) for name in ("C1", "C2", "C6"))
    users = len(np.unique(user))
    assert len(set(zip(user.tolist(), constant.tolist(), strict=True))) == users
    assert len(set(zip(user.tolist(), changing.tolist(), strict=True))) > 3 * users


def test_pair_features_differ_by_row_when_request_and_item_are_the_same(made: Dataset) -> None:
    key = made.request_index.astype(np.int64) * len(made.item_ids) + made.item_index
    distinct = len(np.unique(np.stack([key, np.asarray(made.pairs["C11"])]), axis=1).T)
    assert len(np.unique(key)) < distinct


def test_popularity_falls_as_zipf_when_values_are_ranked(made: Dataset) -> None:
    values = np.asarray(made.pairs["C12"])
    counts = np.bincount(values, minlength=500)
    ranked = np.sort(counts)[::-1]
    slope = np.polyfit(np.log(np.arange(1, 51)), np.log(ranked[:50]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.15)
    assert abs(np.corrcoef(counts, np.arange(500))[0, 1]) < 0.2  # values do not tell popularity


def rated(data: Dataset, seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Naive Bayes over the categorical features, counted on the rows ``seen``: logits of the rows ``asked``."""
    columns = {
        **take(data.requests, data.request_index),
        **take(data.items, data.item_index),
        **data.pairs,
    }
    logits = np.zeros(len(asked))
    for name in (f"C{number}" for number in range(1, 27)):
        ids = np.asarray(columns[name])
        rate = (np.bincount(ids[seen], data.labels[seen, 0], 500) + 5) / (np.bincount(ids[seen], minlength=500) + 20)
        logits += np.log(rate / (1 - rate))[ids[asked]]
    return logits


def test_what_was_learned_long_ago_is_worth_less_when_time_goes_by(made: Dataset) -> None:
    """As many rows of right before the test, and of long before it: the difference is the drift alone."""
    rows = np.arange(made.rows)
    old, new, test = (
        rows[: made.rows * 2 // 5],
        rows[made.rows * 2 // 5 : made.rows * 4 // 5],
        rows[made.rows * 4 // 5 :],
    )
    labels = made.labels[test, 0]
    assert auc(labels, rated(made, old, test)) > 0.6
    assert auc(labels, rated(made, new, test)) > auc(labels, rated(made, old, test)) + 0.01


def test_schema_can_split_at_random_when_given() -> None:
    random = criteo_shape().model_copy(update={"split": Split(), "features": criteo_shape().features[:20]})
    data = load_dataset("synthetic-criteo", rows=2000, schema=random)
    assert data.schema is random
    assert len({*data.requests, *data.items, *data.pairs}) == 20
    assert data.splits().test.min() < 1000


@pytest.mark.parametrize(
    ("name", "arguments"), [("rows", (999, 0, 10)), ("seed", (1000, -1, 10)), ("values", (1000, 0, 1))]
)
def test_arguments_are_refused_with_the_name_when_too_small(name: str, arguments: tuple[int, int, int]) -> None:
    rows, seed, values = arguments
    with pytest.raises(UsageError, match=f"{name}: is too small"):
        make_synthetic_criteo(rows, seed=seed, values=values)

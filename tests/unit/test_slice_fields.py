"""Fields whose values make slices: those with few values, by the names of the values."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.certification.fields import slice_columns, training_counts
from rankine.data import Dataset, load_dataset
from rankine.errors import UsageError
from rankine.models.columns import Batch
from rankine.models.schema import CategoricalFeature, DenseFeature, Hash, Identity, Schema
from rankine.models.transforms import Transforms

SCHEMA = Schema(
    features=(
        CategoricalFeature(name="user", side="request"),
        CategoricalFeature(name="country", side="request", dtype="string"),
        CategoricalFeature(name="always", side="request"),
        CategoricalFeature(name="city", side="request", dtype="string", encoding=Hash(buckets=7)),
        DenseFeature(name="age", side="request"),
        CategoricalFeature(name="year", side="item"),
        CategoricalFeature(name="slot", side="pair", encoding=Identity(size=3)),
        CategoricalFeature(name="sku", side="item"),
    ),
    item_id="sku",
)
REQUEST = {
    "user": np.arange(6),
    "country": np.array([b"de", b"de", b"nl", b"nl", b"nl", b"fr"]),
    "always": np.ones(6, np.int64),
    "city": np.array([b"a", b"b", b"a", b"b", b"a", b"b"]),
    "age": np.zeros(6, np.float32),
}
ITEM = {"year": np.array([1998, 1999] * 3), "sku": np.arange(10, 16)}


@pytest.fixture(scope="module")
def transforms() -> Transforms:
    known = {**REQUEST, **ITEM, "slot": np.arange(6) % 3}
    return Transforms.fit(SCHEMA, known | {"country": np.array([b"de"] * 3 + [b"nl"] * 3)})


@pytest.fixture(scope="module")
def batch(transforms: Transforms) -> Batch:
    """Six requests, each with two of six items."""
    request = transforms.encode(SCHEMA.request_features, REQUEST, unseen="row")
    item = transforms.encode(SCHEMA.catalog_features, ITEM, unseen="row")
    slots = {"slot": (np.arange(12) % 3).astype(np.int64)}
    pair = transforms.encode(SCHEMA.row_features, slots, unseen="row")
    return Batch(
        request, item, pair, np.repeat(np.arange(6, dtype=np.int32), 2), np.tile(np.arange(6, dtype=np.int32), 2)
    )


def test_fields_with_the_fewest_values_are_chosen_when_none_is_named(transforms: Transforms, batch: Batch) -> None:
    found = slice_columns(transforms, batch)
    assert list(found) == ["country", "city", "year", "slot"], "not 'always', which has one value, nor the many users"


def test_values_have_their_own_names_when_there_is_a_vocabulary(transforms: Transforms, batch: Batch) -> None:
    found = slice_columns(transforms, batch, ["country", "year", "slot"])
    assert found["country"].tolist() == ["de"] * 4 + ["nl"] * 6 + ["(unknown)"] * 2
    assert found["year"].tolist() == ["1998", "1999"] * 6
    assert found["slot"].tolist() == ["0", "1", "2"] * 4


@pytest.mark.parametrize("name", ["age", "contry"])
def test_field_is_refused_when_it_is_no_categorical_feature(transforms: Transforms, batch: Batch, name: str) -> None:
    with pytest.raises(UsageError, match="no categorical feature"):
        slice_columns(transforms, batch, [name])


def test_counts_are_those_of_training_when_ids_are_looked_up() -> None:
    found = training_counts(np.array([5, 5, 9, 7, 5]), np.array([5, 6, 9, 10, 1]))
    assert found.tolist() == [3, 0, 1, 0, 0]


def test_columns_fit_the_rows_when_a_real_data_set_is_encoded() -> None:
    dataset: Dataset = load_dataset("synthetic", rows=2000)
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    found = slice_columns(transforms, dataset.encode(transforms).select(splits.test))
    assert len(found) == 4
    assert {len(values) for values in found.values()} == {len(splits.test)}

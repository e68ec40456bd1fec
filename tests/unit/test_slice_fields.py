"""Fields whose values make slices: those with few values, by the names of the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.certification.fields import field_slices, training_counts
from rankine.certification.slices import Slice
from rankine.data.table_stream import stream_table
from rankine.errors import UsageError
from rankine.models.columns import Batch, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Hash, Identity, MultiHotFeature, Schema
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
        MultiHotFeature(name="genres", side="item", dtype="string"),
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
GENRES = [[b"drama", b"war", b"drama"], [b"drama", b"noir"], [b"war"], [b"drama"], [], [b"noir", b"crime"]]
ITEM = {"year": np.array([1998, 1999] * 3), "sku": np.arange(10, 16), "genres": Ragged.from_lists(GENRES, bytes)}


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


def masks(slices: list[Slice]) -> dict[str, list[int]]:
    """By name, the rows that a slice has."""
    return {one.name: np.flatnonzero(one.rows).tolist() for one in slices}


def test_fields_with_the_fewest_values_are_chosen_when_none_is_named(transforms: Transforms, batch: Batch) -> None:
    names = [one.name.split("=")[0] for one in field_slices(transforms, batch)]
    assert list(dict.fromkeys(names)) == ["country", "city", "year", "slot"], "not one value, nor the many users"


def test_largest_values_have_their_own_names_when_there_is_a_vocabulary(transforms: Transforms, batch: Batch) -> None:
    found = masks(field_slices(transforms, batch, ["country", "year", "slot", "year"]))
    assert found == {
        "country=nl": [4, 5, 6, 7, 8, 9],
        "country=de": [0, 1, 2, 3],
        "country=(unknown)": [10, 11],
        "year=1998": [0, 2, 4, 6, 8, 10],
        "year=1999": [1, 3, 5, 7, 9, 11],
        "slot=0": [0, 3, 6, 9],
        "slot=1": [1, 4, 7, 10],
        "slot=2": [2, 5, 8, 11],
    }


def test_row_is_in_the_slice_of_each_of_its_values_when_the_field_is_a_list(
    transforms: Transforms, batch: Batch
) -> None:
    found = masks(field_slices(transforms, batch, ["genres"]))
    assert found == {
        "genres has drama": [0, 1, 3, 6, 7, 9],
        "genres has war": [0, 2, 6, 8],
        "genres has noir": [1, 5, 7, 11],
    }, "items 0 to 5 are [drama, war, drama], [drama, noir], [war], [drama], [], [noir, crime]: three are largest"


@pytest.mark.parametrize("name", ["age", "contry"])
def test_field_is_refused_when_it_has_no_values_to_slice_by(transforms: Transforms, batch: Batch, name: str) -> None:
    with pytest.raises(UsageError, match="no categorical or multi-hot feature"):
        field_slices(transforms, batch, [name])


def test_counts_are_those_of_training_when_ids_are_looked_up() -> None:
    found = training_counts(np.array([5, 5, 9, 7, 5]), np.array([5, 6, 9, 10, 1]))
    assert found.tolist() == [3, 0, 1, 0, 0]


def test_slices_fit_the_rows_when_a_data_set_is_streamed_from_files(tmp_path: Path) -> None:
    random, rows = np.random.default_rng(0), 3000
    columns = {"user": random.integers(0, 9, rows), "sku": random.integers(0, 5, rows), "label": np.arange(rows) % 2}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    features = (CategoricalFeature(name="user", side="request"), CategoricalFeature(name="sku", side="item"))
    dataset = stream_table(tmp_path / "rows.parquet", Schema(features=features, item_id="sku"), rows=None, seed=0)
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    for one in field_slices(transforms, dataset.encode(transforms).select(splits.test)):
        name, _, value = one.name.partition("=")
        np.testing.assert_array_equal(one.rows, columns[name][splits.test] == int(value))

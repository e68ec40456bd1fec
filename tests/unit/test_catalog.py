from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from e2e.small_served import ITEMS, SCHEMA, items, write_small_catalog
from rankine.artifact import Draft
from rankine.catalog import Catalog, catalog_beside, write_catalog
from rankine.errors import ArtifactError, DataError
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, MultiHotFeature, Schema, SequenceFeature

TEXT_IDS = Schema(
    features=(CategoricalFeature(name="sku", side="item", dtype="string"), MultiHotFeature(name="tags", side="item")),
    item_id="sku",
    item_id_dtype="string",
)


def test_rows_of_finds_items_and_marks_unknown_when_written_in_another_order(tmp_path: Path) -> None:
    catalog = write_small_catalog(tmp_path / "model")
    rows = catalog.rows_of(np.array([1299, 1000, 77, 1150, 9999]))
    assert rows.dtype == np.int32
    assert rows.tolist() == [299, 0, -1, 150, -1]


def test_columns_follow_the_ids_when_written_in_another_order(tmp_path: Path) -> None:
    write_small_catalog(tmp_path / "model")
    catalog = Catalog.open(catalog_beside(tmp_path / "model"))
    wanted = items()
    tags, expected = catalog.columns["tags"], wanted["tags"]
    assert isinstance(tags, Ragged)
    assert isinstance(expected, Ragged)
    assert len(catalog) == ITEMS
    assert np.array_equal(catalog.item_ids, wanted["item"])
    assert np.array_equal(catalog.columns["price"], wanted["price"])
    assert np.array_equal(tags.offsets, expected.offsets)
    assert np.array_equal(tags.values, expected.values)


def test_rows_of_tells_strings_apart_when_one_is_the_prefix_of_another(tmp_path: Path) -> None:
    tags = Ragged(np.array([5, 6]), np.array([0, 2, 2, 2], np.int32), np.array([0.5, 2.0]))
    ids = np.array(["b", "abcd", "é"])
    catalog = write_catalog(tmp_path / "c", TEXT_IDS, ids, {"sku": ids, "tags": tags})
    wanted = np.array([value.encode() for value in ("abcd", "abcde", "abc", "b", "é", "")])
    assert catalog.item_ids.tolist() == [b"abcd", b"b", "é".encode()]
    assert catalog.rows_of(wanted).tolist() == [0, -1, -1, 1, 2, -1]
    kept = catalog.columns["tags"]
    assert isinstance(kept, Ragged)
    assert kept.offsets.tolist() == [0, 0, 2, 2]
    assert kept.weights is not None
    assert kept.weights.tolist() == [0.5, 2.0]


def test_rows_of_knows_nothing_when_catalog_is_empty(tmp_path: Path) -> None:
    empty = Ragged(np.zeros(0, np.int64), np.zeros(1, np.int32))
    nothing = np.array([], dtype="S1")
    catalog = write_catalog(tmp_path / "c", TEXT_IDS, nothing, {"sku": nothing, "tags": empty})
    assert catalog.rows_of(np.array([b"a"])).tolist() == [-1]


def test_rows_of_refuses_ids_when_they_are_of_the_other_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wrong type"):
        write_small_catalog(tmp_path / "model").rows_of(np.array([b"1000"]))


def test_write_catalog_names_the_id_when_it_is_given_twice(tmp_path: Path) -> None:
    columns = {
        name: column.take(np.arange(3)) if isinstance(column, Ragged) else column[:3]
        for name, column in items().items()
    }
    with pytest.raises(DataError, match=r"item: an item id is given twice \(got 1002\)"):
        write_catalog(tmp_path / "c", SCHEMA, np.array([1002, 1000, 1002]), columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": None}, "price: the catalog needs a column"),
        ({"price": np.zeros(2, np.float32)}, "price: must have one row an item"),
        ({"tags": np.zeros(ITEMS, np.int64)}, "tags: has the wrong form"),
        ({"item": np.zeros(ITEMS, np.float32)}, "item: has the wrong type"),
    ],
)
def test_write_catalog_names_the_column_when_it_does_not_fit(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    columns = {name: column for name, column in (items() | change).items() if column is not None}
    with pytest.raises(DataError, match=message):
        write_catalog(tmp_path / "c", SCHEMA, np.arange(ITEMS), columns)


def test_open_refuses_a_folder_when_it_is_another_artifact(tmp_path: Path) -> None:
    draft = Draft("train", name="model")
    draft.put_bytes("schema.json", b"{}")
    draft.commit(tmp_path / "model")
    with pytest.raises(ArtifactError, match="not a catalog"):
        Catalog.open(tmp_path / "model")


def test_write_catalog_refuses_when_an_unsigned_value_does_not_fit_int64(tmp_path: Path) -> None:
    schema = Schema(features=(CategoricalFeature(name="brand", side="item"),), item_id="sku", item_id_dtype="int64")
    fits, too_large = np.array([1, 2**63 - 1], np.uint64), np.array([1, 2**63], np.uint64)
    with pytest.raises(DataError, match="sku: a value is out of int64's range"):
        write_catalog(tmp_path / "ids", schema, too_large, {"brand": fits})
    with pytest.raises(DataError, match="brand: a value is out of int64's range"):
        write_catalog(tmp_path / "values", schema, fits, {"brand": too_large})
    assert write_catalog(tmp_path / "fits", schema, fits, {"brand": fits}).item_ids.tolist() == [1, 2**63 - 1]


def _lists(feature: MultiHotFeature | SequenceFeature) -> Schema:
    return Schema(features=(feature,), item_id="sku")


def test_sequences_are_kept_whole_and_in_order_when_written(tmp_path: Path) -> None:
    schema = _lists(SequenceFeature(name="viewers", side="item", max_length=2))
    viewers = Ragged(np.array([5, 4, 6, 1]), np.array([0, 3, 4], np.int32), np.array([1, 2, 3, 4], np.float32))
    kept = write_catalog(tmp_path / "c", schema, np.array([9, 8]), {"viewers": viewers}).columns["viewers"]
    assert isinstance(kept, Ragged)
    assert kept.values.tolist() == [1, 5, 4, 6]  # longer than max_length: the transforms cut it, not the catalog
    assert kept.offsets.tolist() == [0, 1, 4]
    assert kept.weights is not None
    assert kept.weights.tolist() == [4, 1, 2, 3]


@pytest.mark.parametrize(
    ("feature", "column", "message"),
    [
        (SequenceFeature(name="tags", side="item"), np.array([1, 2]), "tags: has the wrong form.*ragged"),
        (
            MultiHotFeature(name="tags", side="item", pooling="max"),
            Ragged(np.array([1, 2]), np.array([0, 1, 2], np.int32), np.ones(2, np.float32)),
            "tags: takes no weights",
        ),
    ],
)
def test_write_catalog_names_the_feature_when_its_lists_do_not_fit(
    tmp_path: Path, feature: MultiHotFeature | SequenceFeature, column: np.ndarray | Ragged, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_catalog(tmp_path / "c", _lists(feature), np.array([9, 8]), {"tags": column})

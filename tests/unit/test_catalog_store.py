"""The catalog store: generations, readers and the writer, held against what each generation must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rankine.artifact import Artifact
from rankine.catalog import Catalog, CatalogReader, CatalogWriter, DerivedKey, Deriver, Preparer, write_catalog
from rankine.catalog.change import Change
from rankine.catalog.derive import derive
from rankine.cli.options import carry_catalog
from rankine.errors import ArtifactError, DataError, EngineError
from rankine.models.columns import Columns, Ragged
from unit.catalog_items import (
    FIRST_ITEMS,
    advance,
    check_equal,
    check_view,
    columns_of,
    deriver,
    embed,
    external,
    preparer,
    schema,
    state_at,
    values_of,
    write_first,
)


@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_every_generation_is_what_was_written_when_read_while_it_grows(tmp_path: Path, dtype: str) -> None:
    made = write_first(tmp_path / "c", dtype)
    reader = CatalogReader(tmp_path / "c")
    check_view(reader.view, made, dtype)
    with CatalogWriter(tmp_path / "c") as writer:
        for generation in range(2, 24):
            assert advance(writer, made, dtype) == generation
            if generation % 9 == 0:
                assert writer.compact() == generation
            if generation % 4:  # now and then several generations are taken up at once
                check_view(reader.refresh(), made, dtype)
            if generation % 5 == 0:
                check_view(CatalogReader(tmp_path / "c").view, made, dtype)


def test_a_view_stays_what_it_was_when_the_catalog_goes_on_and_is_compacted(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        held = [reader.view]
        for _ in range(12):
            advance(writer, made)
            held.append(reader.refresh())
        writer.compact()
        reader.refresh()
        for _ in range(3):
            advance(writer, made)
    assert [view.generation for view in held] == list(range(1, 14))
    for view in held:  # also those whose files the writer has removed by now
        check_view(view, made)


def test_refresh_gives_the_same_view_when_nothing_was_written(tmp_path: Path) -> None:
    write_first(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    before = reader.view
    assert reader.refresh() is before


def test_segments_stay_few_when_items_come_one_by_one(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    reader = CatalogReader(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        for number in range(64):
            writer.upsert(made.prepare(np.array([number]), columns_of([values_of(number, 1)])))
            assert len(reader.refresh().segments) <= 9
    assert len(reader.view) == 64


def test_catalog_holds_all_items_in_order_when_the_log_has_records(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        for _ in range(2, 12):
            generation = advance(writer, made)
    catalog = Catalog.open(tmp_path / "c")
    expected = state_at(generation)
    assert catalog.generation == generation
    assert catalog.item_ids.tolist() == sorted(expected)
    for name, column in columns_of([expected[key] for key in sorted(expected)]).items():
        check_equal(catalog.columns[name], column)
    assert catalog.rows_of(catalog.item_ids).tolist() == list(range(len(expected)))


def test_compact_leaves_one_snapshot_that_verifies_when_it_folds_a_log(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        for _ in range(4):
            advance(writer, made)
        assert writer.compact() == 5
    artifact = Artifact.open(tmp_path / "c")
    artifact.verify()
    assert {path.name for path in (tmp_path / "c" / "blobs").iterdir()} == {
        blob.sha256 for blob in artifact.manifest.files.values()
    }
    assert [path.name for path in (tmp_path / "c").glob("log-*")] == ["log-5"]
    assert (tmp_path / "c" / "log-5").stat().st_size == 0
    assert not (tmp_path / "c" / "files" / "ids.npy").exists()
    assert len(CatalogReader(tmp_path / "c").view.segments) == 1


def test_compact_writes_nothing_when_the_log_is_empty(tmp_path: Path) -> None:
    write_first(tmp_path / "c")
    before = (tmp_path / "c" / "manifest.json").read_bytes()
    with CatalogWriter(tmp_path / "c") as writer:
        assert writer.compact() == 1
    assert (tmp_path / "c" / "manifest.json").read_bytes() == before


def test_build_adds_what_variants_read_when_the_catalog_was_written_raw(tmp_path: Path) -> None:
    made = preparer()
    items = list(state_at(1).values())
    write_catalog(tmp_path / "c", schema(), external(list(range(len(items))), "int64"), columns_of(items))
    reader = CatalogReader(tmp_path / "c")
    assert not reader.view.derived
    with CatalogWriter(tmp_path / "c") as writer:
        assert writer.build(made) == 2
        assert reader.refresh().generation == 2
        writer.upsert(made.prepare(external([3], "int64"), columns_of([values_of(3, 1)])))
    assert set(reader.refresh().derived) == {of.key for of in made.derivers}
    tables = reader.view.take_derived(made.derivers[2].key, reader.view.rows_of(np.array([3, 7])))
    assert tables["bags"].form == "int8"
    assert tables["bags"].count == 2


def test_build_drops_what_no_variant_reads_when_the_artifact_is_another(tmp_path: Path) -> None:
    write_first(tmp_path / "c")
    other = preparer("int64", deriver("float32", "other"))
    with CatalogWriter(tmp_path / "c") as writer:
        writer.build(other)
    view = CatalogReader(tmp_path / "c").view
    assert [key.variant for key in view.derived] == ["other"]
    assert not [name for name in Artifact.open(tmp_path / "c").names() if "/small/" in name]


def test_upsert_refuses_items_when_they_lack_what_a_variant_reads(tmp_path: Path) -> None:
    write_first(tmp_path / "c")
    poorer = preparer("int64", deriver("float32"))
    with CatalogWriter(tmp_path / "c") as writer:
        with pytest.raises(ArtifactError, match=r"derived columns that these items lack.*float16"):
            writer.upsert(poorer.prepare(np.array([3]), columns_of([values_of(3, 1)])))
        assert writer.generation == 1


def test_upsert_leaves_out_derived_columns_when_the_catalog_does_not_hold_them(tmp_path: Path) -> None:
    write_first(tmp_path / "c", "int64", deriver("float32"))
    with CatalogWriter(tmp_path / "c") as writer:
        writer.upsert(preparer().prepare(np.array([3]), columns_of([values_of(3, 1)])))
    assert [key.storage for key in CatalogReader(tmp_path / "c").view.derived] == ["float32"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(np.array([b"a"])), "item ids are of the wrong type"),
        (Change(np.zeros(0, np.int64)), "there are no items"),
        (Change(np.array([1]), {"brand": np.array([1])}), "tags: the catalog needs a column"),
        (Change(np.array([1]), {**columns_of([values_of(1, 1)]), "extra": np.array([1])}), "no feature 'extra'"),
        (
            Change(np.array([1]), {**columns_of([values_of(1, 1)]), "size": np.zeros((1, 2), np.float32)}),
            "size: has an",
        ),
        (Change(np.array([1]), {**columns_of([values_of(1, 1)]), "tags": np.array([1])}), "tags: has another form"),
    ],
)
def test_upsert_names_what_does_not_fit_when_a_change_is_not_of_this_catalog(
    tmp_path: Path, change: Change, message: str
) -> None:
    write_catalog(tmp_path / "c", schema(), np.array([1]), columns_of([values_of(1, 1)]))
    with CatalogWriter(tmp_path / "c") as writer:
        with pytest.raises(DataError, match=message):
            writer.upsert(change)
        assert writer.generation == 1
    assert CatalogReader(tmp_path / "c").view.generation == 1


def test_prepare_names_the_id_when_it_is_given_twice() -> None:
    with pytest.raises(DataError, match=r"sku: an item id is given twice \(got 4\)"):
        preparer().prepare(np.array([4, 5, 4]), columns_of([values_of(number, 1) for number in (4, 5, 4)]))


def test_prepare_refuses_a_value_when_the_transforms_do(tmp_path: Path) -> None:
    columns = columns_of([values_of(4, 1)])
    columns["size"] = np.array([[1, np.nan, 2]], np.float32)
    with pytest.raises(DataError, match="size: must be finite"):
        preparer().prepare(np.array([4]), columns)


def _gives(columns: dict[str, np.ndarray], storage: str = "float32") -> Deriver:
    key = DerivedKey.model_validate({"variant": "small", "graph": "0" * 16, "storage": storage})
    return Deriver(key, {"sum": 2}, lambda items: columns)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (_gives({"other": np.zeros((3, 2), np.float32)}), "gives other columns"),
        (_gives({"sum": np.zeros((3, 1), np.float32)}), "wrong shape"),
        (_gives({"sum": np.full((3, 2), np.nan, np.float32)}), "not finite"),
        (_gives({"sum": np.full((3, 2), 1e6, np.float32)}, "float16"), "Store it as float32"),
    ],
)
def test_derive_refuses_what_a_graph_gives_when_it_is_not_what_it_says(made: Deriver, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        derive([made], {}, 3)


def test_weights_are_kept_when_only_later_items_have_them(tmp_path: Path) -> None:
    made = Preparer(preparer().transforms)
    lists = Ragged(np.array([b"tag-1", b"tag-2"]), np.array([0, 2], np.int32), np.array([0.5, 2], np.float32))
    write_catalog(tmp_path / "c", schema(), np.array([1]), columns_of([{**values_of(1, 1), "tags": ["tag-3"]}]))
    with CatalogWriter(tmp_path / "c") as writer:
        writer.upsert(made.prepare(np.array([2]), {**columns_of([values_of(2, 1)]), "tags": lists}))
        before = Catalog.open(tmp_path / "c").columns["tags"]
        writer.compact()
    for column in (before, Catalog.open(tmp_path / "c").columns["tags"]):
        assert isinstance(column, Ragged)
        assert column.weights is not None
        assert column.weights.tolist() == [1, 0.5, 2]
        assert column.values.tolist() == [b"tag-3", b"tag-1", b"tag-2"]


def test_numbers_fit_when_an_old_catalog_keeps_them_in_another_shape(tmp_path: Path) -> None:
    narrow = schema().model_copy(
        update={
            "features": tuple(f.model_copy(update={"width": 1}) if f.name == "size" else f for f in schema().features)
        }
    )
    flat = {**columns_of([values_of(1, 1)]), "size": np.array([2.5], np.float32)}
    write_catalog(tmp_path / "c", narrow, np.array([1]), flat)
    column = {**columns_of([values_of(2, 1)]), "size": np.array([[3.5]], np.float32)}
    with CatalogWriter(tmp_path / "c") as writer:
        writer.upsert(Change(np.array([2]), column))
    assert Catalog.open(tmp_path / "c").columns["size"].tolist() == [2.5, 3.5]  # type: ignore[union-attr]


def test_copy_goes_its_own_way_when_an_artifact_carries_its_catalog(tmp_path: Path) -> None:
    made = write_first(tmp_path / "a.catalog")
    with CatalogWriter(tmp_path / "a.catalog") as writer:
        advance(writer, made)
        carry_catalog(tmp_path / "a", tmp_path / "b")
        advance(writer, made)
        with CatalogWriter(tmp_path / "b.catalog") as other:
            assert other.generation == 2
            other.compact()
        advance(writer, made)
    check_view(CatalogReader(tmp_path / "a.catalog").view, made)
    check_view(CatalogReader(tmp_path / "b.catalog").view, made)
    assert CatalogReader(tmp_path / "a.catalog").view.generation == 4
    assert CatalogReader(tmp_path / "b.catalog").view.generation == 2


def test_catalog_opens_when_an_earlier_version_wrote_it(tmp_path: Path) -> None:
    """As `write_catalog` did before there was a log: an artifact, whose record has no word of derived columns."""
    from rankine.artifact import Draft

    draft = Draft("catalog", name="old.catalog")
    draft.put_array("ids.npy", np.array([3, 8]))
    draft.put_array("columns/brand.npy", np.array([1, 2]))
    draft.put_array("columns/tags.values.npy", np.array([b"tag-1"]))
    draft.put_array("columns/tags.offsets.npy", np.array([0, 0, 1], np.int32))
    draft.put_array("columns/size.npy", np.zeros((2, 3), np.float32))
    features = '{"brand": "plain", "tags": "ragged", "size": "plain"}'
    text = f'{{"schema_version": 1, "items": 2, "item_id": "sku", "item_id_dtype": "int64", "features": {features}}}'
    draft.put_bytes("catalog.json", text.replace("}}", '}, "generation": 1}').encode())
    draft.commit(tmp_path / "old.catalog")
    assert Catalog.open(tmp_path / "old.catalog").item_ids.tolist() == [3, 8]
    with CatalogWriter(tmp_path / "old.catalog") as writer:
        writer.upsert(preparer().prepare(np.array([5]), columns_of([values_of(5, 2)])))
        writer.compact()
    catalog = Catalog.open(tmp_path / "old.catalog")
    assert catalog.item_ids.tolist() == [3, 5, 8]
    assert catalog.artifact.name == "old.catalog"


def test_open_names_the_column_when_it_has_another_length(tmp_path: Path) -> None:
    from rankine.artifact import Draft

    draft = Draft("catalog", name="c")
    draft.put_array("ids.npy", np.array([3, 8]))
    draft.put_array("columns/brand.npy", np.array([1]))
    text = '{"items": 2, "item_id": "sku", "item_id_dtype": "int64", "features": {"brand": "plain"}}'
    draft.put_bytes("catalog.json", text.encode())
    draft.commit(tmp_path / "c")
    with pytest.raises(ArtifactError, match="brand: has the wrong length"):
        CatalogReader(tmp_path / "c")


def test_embed_is_of_each_item_alone_when_derived_in_other_company() -> None:
    made = preparer()
    columns: Columns = columns_of([values_of(number, 1) for number in range(10)])
    features = made.transforms.schema.catalog_features
    whole = embed(made.transforms.encode(features, columns, unseen="row"))
    alone = embed(made.transforms.encode(features, columns_of([values_of(4, 1)]), unseen="row"))
    assert np.array_equal(whole["bags"][4:5], alone["bags"])


def test_views_hold_encoded_columns_when_a_reader_is_told_how(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    features = made.transforms.schema.catalog_features
    calls: list[int] = []

    def encode(stored: Columns) -> Columns:
        calls.append(len(stored["brand"]))
        derived = {name: column for name, column in stored.items() if "/" in name}
        return made.transforms.encode(features, stored, unseen="row") | derived

    reader, plain = CatalogReader(tmp_path / "c", encode=encode), CatalogReader(tmp_path / "c")
    with CatalogWriter(tmp_path / "c") as writer:
        for generation in range(2, 12):
            advance(writer, made)
            if generation == 8:
                writer.compact()
            before = len(calls)
            view, raw = reader.refresh(), plain.refresh()
            assert len(calls) <= before + 1  # what was encoded before is not encoded again
            assert len(view) == len(raw.item_ids)
            found = view.take(view.rows_of(raw.item_ids))
            wanted = made.transforms.encode(features, raw.take(raw.item_rows), unseen="row")
            assert list(found) == list(wanted)
            for name, column in wanted.items():
                check_equal(found[name], column)
            key = made.derivers[2].key
            both = (view.take_derived(key, view.item_rows), raw.take_derived(key, raw.item_rows))
            assert np.array_equal(both[0]["bags"].dequantized(), both[1]["bags"].dequantized())
    assert sorted(calls, reverse=True)[3] < FIRST_ITEMS // 2  # only snapshots were read whole: generations 1, 5 and 8

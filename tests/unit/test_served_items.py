"""A server's items while the catalog changes: requests keep their generation, whatever comes in beside them."""

from __future__ import annotations

import gc
import json
import logging
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.small_served import ITEMS, SCHEMA, items, rank_body, transforms
from rankine.catalog import CatalogWriter, Preparer
from rankine.errors import ArtifactError, BadRequest
from rankine.models.columns import Batch, Column, Columns, Ragged, take
from rankine.policy.batching import Limits
from rankine.serving import completion
from rankine.serving.items import Items, ServedCatalog
from rankine.serving.model import ServedModel, unknown_item
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import Ranking, RankProtocol
from rankine.serving.refresh import Refresher
from rankine.serving.warm import warm_works
from rankine.serving.work import Work, join
from unit.numpy_served import as_they_are, expected_logits, numpy_model

OLD = 1005
NEW = 7000
Raw = dict[str, Column]


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    return numpy_model(tmp_path)


def place(tmp_path: Path) -> Path:
    return tmp_path / "small.catalog"


def raw_items(ids: list[int], price: float) -> Raw:
    tags = [["tag-3", "tag-1"]] * len(ids)
    return {
        "item": np.array(ids),
        "tags": Ragged.from_lists(tags, np.dtype("S8")),
        "price": np.full(len(ids), price, np.float32),
    }


def upsert(tmp_path: Path, ids: list[int], price: float) -> int:
    with CatalogWriter(place(tmp_path)) as writer:
        return writer.upsert(Preparer(transforms()).prepare(np.array(ids), raw_items(ids, price)))


def delete(tmp_path: Path, ids: list[int]) -> int:
    with CatalogWriter(place(tmp_path)) as writer:
        return writer.delete(np.array(ids))


def catalog_of(model: ServedModel) -> ServedCatalog:
    assert model.catalog is not None
    return model.catalog


def prepare(model: ServedModel, ids: list[int], **inline: list[Any]) -> Ranking:
    body: dict[str, Any] = rank_body(len(ids))
    body["candidates"]["ids"] = ids
    body["candidates"]["features"] |= inline
    raw = json.dumps(body).encode()
    return RankProtocol(model, max_candidates=500).prepare(raw, arrived_s=0.0, deadline_s=9e9, announced=None)


def by_hand(work: Work, *parts: Raw) -> np.ndarray:
    """Logits of a work whose rows are these items, one after the other, encoded by hand."""
    encoded = [transforms().encode(SCHEMA.catalog_features, part, unseen="row") for part in parts]
    logits = []
    start = 0
    for columns in encoded:
        rows = np.arange(start, start + len(columns["item"]))
        start += len(rows)
        index = np.arange(len(rows), dtype=np.int32)
        logits.append(
            expected_logits(Batch(work.request, columns, take(work.pair, rows), np.zeros(len(rows), np.int32), index))
        )
    return np.concatenate(logits)


def stored(ids: list[int]) -> Raw:
    """Raw features of items as the first generation has them."""
    return take(items(), np.array(ids) - 1000)


def test_every_row_is_of_its_own_generation_when_works_of_several_are_joined(
    model: ServedModel, tmp_path: Path
) -> None:
    first = prepare(model, [OLD, 1001])
    upsert(tmp_path, [NEW, OLD], 80.0)
    assert catalog_of(model).refresh()
    second = prepare(model, [1002, OLD, NEW])
    inline = prepare(model, [OLD], tags=[["tag-3", "tag-1"]], price=[3.0])
    delete(tmp_path, [NEW])
    upsert(tmp_path, [OLD, 7001, 7002], 20.0)
    assert catalog_of(model).refresh()
    third = prepare(model, [7002, OLD])
    assert [ranking.generation for ranking in (first, second, inline, third)] == [1, 2, 2, 4]
    expected = [
        by_hand(first.work, stored([OLD, 1001])),
        by_hand(second.work, stored([1002]), raw_items([OLD, NEW], 80.0)),
        by_hand(inline.work, raw_items([OLD], 3.0)),
        by_hand(third.work, raw_items([7002, OLD], 20.0)),
    ]
    works = [ranking.work for ranking in (first, second, inline, third)]
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3], [1], [2]):
        batch = join([works[at] for at in order], as_they_are)
        assert np.allclose(expected_logits(batch), np.concatenate([expected[at] for at in order]), atol=1e-6)
        assert batch.item_index.dtype == batch.request_index.dtype == np.int32


def test_snapshot_is_not_copied_when_only_other_items_changed(model: ServedModel, tmp_path: Path) -> None:
    before = prepare(model, [1001, 1002]).work
    upsert(tmp_path, [NEW], 5.0)
    catalog_of(model).refresh()
    works = [prepare(model, [1001, 1002]).work, prepare(model, [1007]).work]
    snapshot = join([before], as_they_are).item
    assert join(works, as_they_are).item is snapshot
    assert join(works[:1], as_they_are).item is snapshot
    small = join([*works, prepare(model, [NEW]).work], as_they_are).item
    assert [len(column) for column in small.values()] == [4, 4, 4]


def test_item_is_unknown_when_it_was_deleted_and_old_requests_still_have_it(model: ServedModel, tmp_path: Path) -> None:
    before = prepare(model, [OLD])
    delete(tmp_path, [OLD])
    catalog_of(model).refresh()
    with pytest.raises(BadRequest, match=r"candidates\.ids\[1\]: unknown item") as refused:
        prepare(model, [1001, OLD])
    assert refused.value.got == str(OLD)
    logits = expected_logits(join([before.work], as_they_are))
    assert np.allclose(logits, by_hand(before.work, stored([OLD])), atol=1e-6)
    assert model.items is not None
    assert len(model.items) == ITEMS - 1


def test_unknown_item_stands_in_where_an_id_is_absent_when_generations_move(tmp_path: Path) -> None:
    model = numpy_model(tmp_path, with_unknown_row=True)
    unknown = unknown_item(transforms())

    def of_unknown(work: Work, row: int) -> np.ndarray:
        zero = np.zeros(1, np.int32)
        return expected_logits(Batch(work.request, unknown, take(work.pair, np.array([row])), zero, zero))[0]

    def scores(ids: list[int]) -> tuple[Work, np.ndarray]:
        work = prepare(model, ids).work
        return work, expected_logits(join([work], as_they_are))

    work, logits = scores([NEW, 1001, OLD, NEW])
    assert np.allclose(logits[[0, 3]], [of_unknown(work, 0), of_unknown(work, 3)], atol=1e-6)
    known = prepare(model, [1000, 1001, OLD]).work
    assert np.allclose(logits[1:3], by_hand(known, stored([1000, 1001, OLD]))[1:], atol=1e-6)
    upsert(tmp_path, [NEW], 80.0)
    delete(tmp_path, [OLD])
    catalog_of(model).refresh()
    work, logits = scores([NEW, 1001, OLD])
    assert np.allclose(logits[:2], by_hand(work, raw_items([NEW], 80.0), stored([1001])), atol=1e-6)
    assert np.allclose(logits[2], of_unknown(work, 2), atol=1e-6)


def test_inline_items_are_completed_together_when_works_are_joined(model: ServedModel) -> None:
    calls: list[int] = []

    def complete(columns: Columns) -> Columns:
        calls.append(len(columns["item"]))
        return columns

    features = {"tags": [["tag-3", "tag-1"]], "price": [3.0]}
    works = [prepare(model, [OLD], **features).work, prepare(model, [1001]).work, prepare(model, [9], **features).work]
    batch = join(works, complete)
    assert calls == [2]
    expected = [by_hand(works[0], raw_items([OLD], 3.0)), by_hand(works[1], stored([1001]))]
    expected.append(by_hand(works[2], raw_items([9], 3.0)))
    assert np.allclose(expected_logits(batch), np.concatenate(expected), atol=1e-6)
    join(works[1:2], complete)
    assert calls == [2]  # what is in the catalog was completed when it was read


def test_items_are_completed_once_when_they_are_read(tmp_path: Path) -> None:
    numpy_model(tmp_path)
    calls: list[int] = []

    def complete(columns: Columns) -> Columns:
        calls.append(len(columns["item"]))
        return {**columns, "twice": 2 * np.asarray(columns["price"])}

    unknown = unknown_item(transforms())
    catalog = ServedCatalog(place(tmp_path), transforms(), unknown=unknown, complete=complete)
    assert sorted(calls) == [1, ITEMS]
    upsert(tmp_path, [NEW, OLD], 80.0)
    assert catalog.refresh()
    assert not catalog.refresh()
    assert sorted(calls) == [1, 2, ITEMS]
    rows = catalog.items.rows_of(np.array([NEW, 3, 1001, OLD]), "ids")
    columns, index = catalog.items.table(rows)
    assert rows[1] == -1
    assert np.array_equal(np.asarray(columns["twice"])[index], 2 * np.asarray(columns["price"])[index])


def test_damage_is_logged_once_when_it_stays_and_items_stay(
    model: ServedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Items] = []
    refresher = Refresher(catalog_of(model), 60.0, told.append)
    upsert(tmp_path, [NEW], 80.0)
    refresher.look()
    assert [found.generation for found in told] == [2]
    upsert(tmp_path, [7001], 80.0)
    upsert(tmp_path, [7002], 80.0)
    log = place(tmp_path) / "log-1"
    whole = log.read_bytes()
    at = whole.index(b"RKL1", whole.index(b"RKL1", 1))  # the second record: a good one follows it
    log.write_bytes(whole[: at + 60] + b"\xff" + whole[at + 61 :])
    with caplog.at_level(logging.INFO, "rankine"):
        refresher.look()
        refresher.look()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "damaged" in str(caplog.records[0].__dict__["fields"]["error"])
    assert prepare(model, [NEW, 1001]).generation == 2
    log.write_bytes(whole)
    refresher.look()
    assert [found.generation for found in told] == [2, 4]
    assert prepare(model, [7002]).generation == 4


def test_catalog_is_refused_when_it_does_not_fit_the_schema(tmp_path: Path) -> None:
    numpy_model(tmp_path)
    fitted = transforms()
    more = replace(fitted, schema=SCHEMA.model_copy(update={"item_id_dtype": "string"}))
    with pytest.raises(ArtifactError, match=r"ids are of another type \(got int64; allowed: string\)"):
        ServedCatalog(place(tmp_path), more, unknown=None, complete=as_they_are)
    features = tuple(
        feature.model_copy(update={"name": "cost"}) if feature.name == "price" else feature
        for feature in SCHEMA.features
    )
    other = replace(fitted, schema=SCHEMA.model_copy(update={"features": features}))
    with pytest.raises(ArtifactError, match=r"lacks item features that the model reads \(got without cost"):
        ServedCatalog(place(tmp_path), other, unknown=None, complete=as_they_are)


def test_thread_ends_when_the_refresher_is_closed(model: ServedModel, tmp_path: Path) -> None:
    seen: list[int] = []
    refresher = Refresher(catalog_of(model), 0.001, lambda found: seen.append(found.generation))
    upsert(tmp_path, [NEW], 80.0)
    refresher.start()
    for _ in range(1000):
        if seen:
            break
        time.sleep(0.01)
    refresher.close()
    upsert(tmp_path, [NEW], 90.0)
    assert seen == [2]


def test_refresh_is_given_up_between_pieces_when_the_refresher_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numpy_model(tmp_path)
    calls: list[int] = []

    def complete(columns: Columns) -> Columns:
        calls.append(len(columns["item"]))
        if calls[-1] == 1:
            refresher.close()  # its thread was never started: as if the server left right now
        return {**columns, "twice": 2 * np.asarray(columns["price"])}

    catalog = ServedCatalog(place(tmp_path), transforms(), unknown=None, complete=complete)
    refresher = Refresher(catalog, 60.0, lambda found: pytest.fail("the refresh went on"))
    monkeypatch.setattr(completion, "_ITEMS_AT_ONCE", 1)
    upsert(tmp_path, [NEW, OLD, 7001], 80.0)
    with caplog.at_level(logging.INFO, "rankine"):
        refresher.look()
    assert calls == [ITEMS, 1]
    assert catalog.items.generation == 1
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert catalog.refresh()  # nothing of what was given up is left behind
    assert calls == [ITEMS, 1, 1, 1, 1]
    assert catalog.items.rows_of(np.array([7001]), "ids")[0] >= 0


def test_completion_is_whole_and_told_when_items_are_completed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_ITEMS_AT_ONCE", 128)
    encoded = transforms().encode(SCHEMA.catalog_features, items(), unseen="row")
    told: list[int] = []

    def complete(columns: Columns) -> Columns:
        price = np.asarray(columns["price"])
        return {**columns, "rows": np.hstack([price, -price]).astype(np.float16), "scale": price[:, 0]}

    found = completion.complete_all(complete, encoded, lambda done, _: told.append(done))
    assert told == [128, 256, ITEMS]
    assert list(found) == [*encoded, "rows", "scale"]
    for name, column in complete(encoded).items():
        if isinstance(column, np.ndarray):
            assert found[name].dtype == column.dtype  # type: ignore[union-attr]
            assert np.array_equal(found[name], column)  # type: ignore[arg-type]
    assert found["tags"] is encoded["tags"]


def test_items_are_looked_at_once_when_the_engine_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_ITEMS_AT_ONCE", 128)
    encoded = transforms().encode(SCHEMA.catalog_features, items(), unseen="row")
    calls: list[int] = []

    def complete(columns: Columns) -> Columns:
        calls.append(len(columns["item"]))
        return columns

    assert completion.complete_all(complete, encoded) is encoded
    assert calls == [128]


def test_workers_warm_up_with_inline_items_when_items_are_in_the_catalog(model: ServedModel) -> None:
    works = warm_works(model, 100)
    inline = [work for work in works if not isinstance(work.items, Items)]
    assert sorted({work.rows for work in inline}) == [1, 100]
    assert len(works) == 4 * len(inline)
    for work in inline:
        twin = next(other for other in works if other.rows == work.rows and isinstance(other.items, Items))
        alike = [expected_logits(join([one], as_they_are)) for one in (work, twin)]
        assert np.array_equal(*alike)


def test_old_generation_is_let_go_when_no_request_holds_it(model: ServedModel, tmp_path: Path) -> None:
    assert model.items is not None
    old = weakref.ref(model.items.view)
    limits = Limits(max_batch_rows=64, max_queue_rows=100)
    pool = Pool(model.rungs, tasks=1, workers=2, limits=limits, observe=lambda run: None)
    pool.start([prepare(model, [1001, 1002]).work])
    model.runner.batches.clear()  # type: ignore[attr-defined]
    upsert(tmp_path, [NEW], 80.0)
    catalog_of(model).refresh()
    for _ in range(200):  # until the workers have left their warm-up
        gc.collect()
        if old() is None:
            break
        time.sleep(0.01)
    assert old() is None
    pool.close()

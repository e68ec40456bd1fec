"""The conformance template: one suite, run over every installed engine as far as its capability record says it can."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engine.conftest import Case
from engine.installed import installed_engine
from engine.small_model import small_batch
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch, Ragged

pytestmark = pytest.mark.engine


def _tasks(case: Case) -> int:
    return case.expected(small_batch(1)).shape[1]


def _out(case: Case, rows: int) -> np.ndarray:
    return np.full((rows, _tasks(case)), np.nan, np.float32)


@pytest.mark.parametrize("rows", [1, 7, 64, 512, 1000])
def test_logits_equal_the_reference_when_run(case: Case, rows: int) -> None:
    batch, out = small_batch(rows), _out(case, rows)
    runner = case.open()
    runner.run(batch, out)
    runner.close()
    case.check(out, batch)


def test_logits_stay_right_when_the_number_of_rows_changes(case: Case) -> None:
    runner = case.open()
    for seed, rows in enumerate([3, 100, 1, 64, 65, 3, 700, 2, 64]):
        batch, out = small_batch(rows, seed=seed), _out(case, rows)
        runner.run(batch, out)
        case.check(out, batch)
    runner.close()


def test_logits_stay_right_when_a_batch_is_too_large_for_the_buffers(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankine.compilation.host_runner._MOST_BUFFER_BYTES", 10_000)
    batch, out = small_batch(300), _out(case, 300)
    runner = case.open()
    runner.run(batch, out)
    runner.close()
    case.check(out, batch)


def test_logits_do_not_depend_on_the_neighbors_when_rows_are_batched(case: Case) -> None:
    batch, together = small_batch(40), _out(case, 40)
    runner = case.open()
    runner.run(batch, together)
    alone = np.concatenate([_out(case, 1) for _ in range(40)])
    for row in range(40):
        runner.run(batch.select(slice(row, row + 1)), alone[row : row + 1])
    runner.close()
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-4)


def test_nothing_is_written_when_there_are_no_rows(case: Case) -> None:
    runner = case.open()
    runner.run(small_batch(0), _out(case, 0))
    batch, out = small_batch(5), _out(case, 5)
    runner.run(batch, out)
    runner.close()
    case.check(out, batch)


def test_logits_are_right_when_many_threads_share_a_runner(case: Case) -> None:
    runner = case.open()
    failures: list[str] = []
    batches = [small_batch(rows, seed=seed) for seed, rows in enumerate([1, 300, 17, 64, 500, 3])]
    expected = [case.expected(batch) for batch in batches]

    def work(batch: Batch, wanted: np.ndarray) -> None:
        for _ in range(10):
            out = _out_like(wanted)
            try:
                runner.run(batch, out)
            except EngineError as error:
                failures.append(str(error))
            if not np.allclose(out, wanted, atol=1e-4 if case.model.numeric == "fp32" else 0.2):
                failures.append(f"{batch.rows} rows: off by {np.abs(out - wanted).max()}")

    threads = [threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runner.close()
    assert failures == []


def _out_like(wanted: np.ndarray) -> np.ndarray:
    return np.full(wanted.shape, np.nan, np.float32)


@pytest.mark.parametrize("value", [-1, 400, 2**31 - 1])
def test_an_id_is_refused_with_its_feature_when_it_is_out_of_range(case: Case, value: int) -> None:
    batch = small_batch(20)
    items = batch.item["item"]
    recent = batch.request["recent"]
    assert isinstance(items, np.ndarray)
    assert isinstance(recent, Ragged)
    runner, out = case.open(), _out(case, 20)
    with pytest.raises(BadRequest, match=r"item .*id out of range") as caught:
        runner.run(replace(batch, item={**batch.item, "item": np.full_like(items, value)}), out)
    assert caught.value.got == str(value)
    poisoned = Ragged(np.full(3, value, np.int32), np.array([0, 3], np.int32))
    with pytest.raises(BadRequest, match=r"recent .*id out of range"):
        runner.run(replace(batch, request={**batch.request, "recent": poisoned}), out)
    runner.run(batch, out)
    runner.close()
    case.check(out, batch)


@pytest.mark.parametrize("value", [-1, 37])
def test_an_index_is_refused_when_it_is_out_of_range(case: Case, value: int) -> None:
    batch = small_batch(20)
    index = batch.item_index.copy()
    index[11] = value
    runner = case.open()
    with pytest.raises(BadRequest, match=r"row 11.*item index is out of range"):
        runner.run(replace(batch, item_index=index), _out(case, 20))
    runner.close()


def test_wrong_shapes_are_named_when_given(case: Case) -> None:
    batch, tasks = small_batch(8), _tasks(case)
    runner = case.open()
    for out in (
        np.empty((7, tasks), np.float32),
        np.empty((8, tasks + 1), np.float32),
        np.empty((8, tasks)),
        np.empty((16, tasks), np.float32)[::2],
    ):
        with pytest.raises(EngineError, match=r"out: .*does not fit"):
            runner.run(batch, out)
    with pytest.raises(EngineError, match="item_index"):
        runner.run(replace(batch, item_index=batch.item_index[:5]), _out(case, 8))
    runner.close()


def test_a_runner_opens_again_when_it_was_closed(case: Case) -> None:
    batch = small_batch(6)
    for _ in range(4):
        runner, out = case.open(), _out(case, 6)
        runner.run(batch, out)
        runner.close()
        case.check(out, batch)
        with pytest.raises(EngineError, match="closed"):
            runner.run(batch, out)


def test_logits_are_right_when_opened_with_two_threads(case: Case) -> None:
    runner, batch, out = case.open(threads=2), small_batch(300), _out(case, 300)
    runner.run(batch, out)
    runner.close()
    case.check(out, batch)
    case.open(threads=1).close()  # PyTorch's number of threads belongs to the process


def test_padded_rows_are_few_and_waste_little_when_rows_grow() -> None:
    installed_engine("openvino")
    from rankine.compilation.engines.openvino import padded_rows

    padded = [padded_rows(rows) for rows in range(1, 4097)]
    assert padded[:32] == list(range(1, 33))
    assert all(rows <= given < rows * 17 / 16 for rows, given in enumerate(padded, start=1))
    assert [padded_rows(rows) for rows in (64, 512, 4096)] == [64, 512, 4096]
    assert len(set(padded)) < 160

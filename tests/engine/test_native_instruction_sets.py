"""The native engine gives one model's logits on every instruction set, in any tiles, by any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from engine.installed import installed_engine
from engine.small_model import small_batch
from engine.zoo_model import QUANTIZED
from rankine import _native
from rankine.artifact import Artifact
from rankine.compilation.engine import Target
from rankine.compilation.engines.reference import ReferenceRunner
from rankine.compilation.fused.runner import FusedRunner, Part
from rankine.compilation.fused.sources import bind_sources
from rankine.errors import BadRequest
from rankine.models.columns import Batch, Ragged
from rankine.models.variant import BASELINE, Model, load_model

pytestmark = pytest.mark.engine

_ROWS = 203
_ALLOWED = {BASELINE: 1e-5, QUANTIZED: 1e-6}
"""Of the logits of two instruction sets: sums of floats may differ by their order, INT8 layers may not."""

Open = Callable[..., FusedRunner]


@pytest.fixture(scope="module")
def built(zoo: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Model, Part]]:
    """A variant of the zoo's DCN-v2 and its program, lowered once."""

    @cache
    def build(variant: str) -> tuple[Model, Part]:
        model, folder = load_model(zoo, variant), tmp_path_factory.mktemp(variant)
        installed_engine("native").build(model, Target(), folder)
        program = _native.Program(np.fromfile(folder / "program.bin", np.uint8))
        return model, Part(program, bind_sources(model, len(program.inputs)))

    return build


@pytest.fixture(params=[BASELINE, QUANTIZED])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_runner(built: Callable[[str], tuple[Model, Part]], variant: str) -> Open:
    def open_with(**options: Any) -> FusedRunner:
        return FusedRunner(built(variant)[1], **options)

    return open_with


def _logits(runner: FusedRunner, batch: Batch) -> np.ndarray:
    out = np.full((batch.rows, 1), np.nan, np.float32)
    runner.run(batch, out)
    return out


def test_logits_agree_when_the_instruction_set_is_another(
    built: Callable[[str], tuple[Model, Part]], variant: str, open_runner: Open
) -> None:
    batch = small_batch(_ROWS)
    expected = ReferenceRunner(built(variant)[0]).logits(batch)
    found = {name: _logits(open_runner(instruction_set=name), batch) for name in _native.instruction_sets()}
    assert {"portable"} <= set(found)
    for name, logits in found.items():
        scale = np.maximum(1, np.abs(found["portable"]))
        assert (np.abs(logits - found["portable"]) / scale).max() <= _ALLOWED[variant], name
        if variant == BASELINE:
            assert (np.abs(logits - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5, name


@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
def test_logits_are_the_same_when_tiles_are_of_another_size(open_runner: Open, instruction_set: str) -> None:
    batch = small_batch(_ROWS)
    expected = _logits(open_runner(instruction_set=instruction_set), batch)
    for tile_rows in (1, 2, 7, 24, 25, _ROWS - 1, _ROWS, 1000):
        found = _logits(open_runner(instruction_set=instruction_set, tile_rows=tile_rows), batch)
        np.testing.assert_array_equal(found, expected, f"tiles of {tile_rows} rows")


def test_logits_are_the_same_when_threads_share_a_call(open_runner: Open) -> None:
    batch = small_batch(_ROWS)
    expected = _logits(open_runner(threads=1, tile_rows=24), batch)
    for threads in (2, 5):
        runner = open_runner(threads=threads, tile_rows=24)
        for _ in range(20):
            np.testing.assert_array_equal(_logits(runner, batch), expected, f"{threads} threads")


def test_logits_are_the_same_when_threads_call_at_once(open_runner: Open) -> None:
    runner = open_runner(threads=2, tile_rows=24)
    batches = [small_batch(rows, seed=rows) for rows in (1, 48, 500, 203)]
    expected = [_logits(open_runner(), batch) for batch in batches]
    wrong: list[int] = []

    def call(batch: Batch, wanted: np.ndarray) -> None:
        wrong.extend(batch.rows for _ in range(25) if not np.array_equal(_logits(runner, batch), wanted))

    threads = [threading.Thread(target=call, args=pair) for pair in zip(batches, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _with_id(batch: Batch, feature: str, position: int, value: int) -> Batch:
    """The batch with one id of a feature replaced."""
    for side in ("request", "item", "pair"):
        columns = getattr(batch, side)
        if feature not in columns:
            continue
        column = columns[feature]
        ids = (column.values if isinstance(column, Ragged) else column).copy()
        ids[column.offsets[position] if isinstance(column, Ragged) else position] = value
        changed = replace(column, values=ids) if isinstance(column, Ragged) else ids
        return replace(batch, **{side: {**columns, feature: changed}})
    raise KeyError(feature)


# What the conformance template leaves out: ids of pairs, lists of items and of pairs, histories.
@pytest.mark.parametrize("instruction_set", _native.instruction_sets())
@pytest.mark.parametrize(("feature", "vocabulary"), [("genre", 20), ("last_tag", 30), ("tag", 30), ("history", 400)])
def test_the_feature_and_the_row_are_named_when_one_id_is_out_of_range(
    open_runner: Open, feature: str, vocabulary: int, instruction_set: str
) -> None:
    batch = small_batch(_ROWS)
    where = {"genre": batch.item_index, "history": batch.request_index}.get(feature, np.arange(_ROWS, dtype=np.int32))
    column = next(side[feature] for side in (batch.request, batch.item, batch.pair) if feature in side)
    # A position that holds an id, as far from the first row as there is one.
    filled = [at for at in where if not isinstance(column, Ragged) or column.offsets[at] < column.offsets[at + 1]]
    position = int(filled[-1])
    row = int(np.argmax(where == position))
    runner = open_runner(instruction_set=instruction_set, tile_rows=24)
    for value in (-1, vocabulary, 2**31 - 1, -(2**31)):
        with pytest.raises(BadRequest, match=rf"{feature} \(row {row} of the batch\): id out of range") as caught:
            _logits(runner, _with_id(batch, feature, position, value))
        assert caught.value.got == str(value)


@pytest.mark.parametrize("value", [-1, 3, 2**31 - 1])
def test_the_row_is_named_when_its_request_is_out_of_range(open_runner: Open, value: int) -> None:
    batch = small_batch(_ROWS)
    index = batch.request_index.copy()
    index[101] = value
    with pytest.raises(BadRequest, match=r"row 101.*request index is out of range"):
        _logits(open_runner(tile_rows=24), replace(batch, request_index=index))

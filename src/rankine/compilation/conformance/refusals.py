"""Checks of what is refused: wrong ids, indices and shapes, each with an error that names it, before they do harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from rankine.compilation.conformance.batches import ITEMS
from rankine.compilation.conformance.case import Case
from rankine.compilation.engine import Runner
from rankine.errors import BadRequest, EngineError, RankineError
from rankine.models.columns import Batch, Column, Columns, Ragged
from rankine.models.schema import DenseFeature
from rankine.models.transforms import table_of

__all__ = ["bad_ids", "bad_indices", "wrong_shapes"]

_ROWS, _FARTHEST = 20, 2**31 - 1


def bad_ids(case: Case) -> Mapping[str, float]:
    """An id out of range is refused as `BadRequest` with the name of its feature, and the runner goes on.

    What lies there would be memory of something else, and a crash in many a library.
    """
    batch, runner = case.batch(_ROWS), case.open()
    try:
        for feature in case.model.schema.features:
            if isinstance(feature, DenseFeature):
                continue
            size = case.model.tables[table_of(feature)].count
            for value in (-1, size, _FARTHEST):
                side = "pair" if feature.per_row else feature.side
                _refused(case, runner, _poisoned(batch, side, feature.name, value), feature.name, got=str(value))
        case.hold(case.run(runner, batch), case.expected(batch), "after refusals")
    finally:
        runner.close()
    return {}


def bad_indices(case: Case) -> Mapping[str, float]:
    """A row that refers to an item or a request that is not there is refused likewise."""
    batch, runner = case.batch(_ROWS), case.open()
    try:
        for value in (-1, ITEMS, _FARTHEST):
            index = batch.item_index.copy()
            index[11] = value
            _refused(case, runner, replace(batch, item_index=index), "item index", got=str(value))
        for value in (1, _FARTHEST):  # there is one request
            index = batch.request_index.copy()
            index[-1] = value
            _refused(case, runner, replace(batch, request_index=index), "request index", got=str(value))
        case.hold(case.run(runner, batch), case.expected(batch), "after refusals")
    finally:
        runner.close()
    return {}


def wrong_shapes(case: Case) -> Mapping[str, float]:
    """Arrays that do not fit the batch are refused by their name."""
    batch, tasks, runner = case.batch(8), case.tasks, case.open()
    try:
        for out in _misfits(tasks):
            shape = f"{out.dtype} {out.shape}"
            try:
                runner.run(batch, out)
            except EngineError as error:
                _named(case, error, "out", shape)
            else:
                raise case.failure(
                    "takes an array for the logits that does not fit", got=shape, allowed=f"(8, {tasks})"
                )
        try:
            runner.run(replace(batch, item_index=batch.item_index[:5]), case.out(8))
        except EngineError as error:
            _named(case, error, "item_index", "5 of 8 rows")
        else:
            raise case.failure("takes fewer item indices than rows", got="5", allowed="8")
        case.hold(case.run(runner, batch), case.expected(batch), "after refusals")
    finally:
        runner.close()
    return {}


def _misfits(tasks: int) -> Iterator[np.ndarray]:
    yield np.empty((7, tasks), np.float32)
    yield np.empty((8, tasks + 1), np.float32)
    yield np.empty((8, tasks))
    yield np.empty((16, tasks), np.float32)[::2]


def _poisoned(batch: Batch, side: str, name: str, value: int) -> Batch:
    """The batch with one id in every row of a column, all of them ``value``."""
    sides: dict[str, Columns] = {"request": batch.request, "item": batch.item, "pair": batch.pair}
    columns = sides[side]
    count = len(columns[name])
    ids = np.full(count, value, np.int32)
    poisoned: Column = ids
    if isinstance(columns[name], Ragged):
        poisoned = Ragged(ids, np.arange(count + 1, dtype=np.int32))
    sides[side] = {**columns, name: poisoned}
    return replace(batch, request=sides["request"], item=sides["item"], pair=sides["pair"])


def _refused(case: Case, runner: Runner, batch: Batch, what: str, *, got: str) -> None:
    try:
        runner.run(batch, case.out(batch.rows))
    except BadRequest as error:
        _named(case, error, what, got)
        if error.got != got:
            raise case.failure(f"{what}: the refusal tells another value", got=str(error), allowed=got) from None
    except RankineError as error:
        raise case.failure(f"{what} out of range is no BadRequest", got=str(error), allowed="BadRequest") from None
    else:
        raise case.failure(f"{what} out of range is not refused", got=got, allowed="BadRequest")


def _named(case: Case, error: RankineError, what: str, got: str) -> None:
    if what not in str(error):
        raise case.failure(f"the refusal does not name '{what}'", got=f"{error} (of {got})") from None

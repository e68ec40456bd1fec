"""What a batch gets wrong of what was computed ahead of time is told: which array, which index, and what is allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankine.compilation.gather import gather
from rankine.errors import BadRequest, EngineError
from rankine.models.columns import Batch
from rankine.models.graph_inputs import REQUEST_COLUMN, Piece, stored_column

_STORED = stored_column("0")
_BATCH = Batch(
    request={REQUEST_COLUMN: np.ones((2, 4), np.float32)},
    item={_STORED: np.ones((3, 4), np.float32)},
    pair={},
    request_index=np.array([0, 1, 1], np.int32),
    item_index=np.array([2, 0, 1], np.int32),
)
_PIECES = {
    "item": Piece(column=0, width=4, item="0"),
    "request": Piece(column=0, width=4, request=0),
    "both": Piece(column=0, width=4, item="0", request=0),
}


def _fill(side: str, batch: Batch) -> np.ndarray:
    out = np.zeros((batch.rows, 4), np.float32)
    gather(_PIECES[side])(batch, out, 0)
    return out


@pytest.mark.parametrize(("side", "expected"), [("item", 1.0), ("request", 1.0), ("both", 2.0)])
def test_piece_is_filled_when_the_batch_is_right(side: str, expected: float) -> None:
    assert (_fill(side, _BATCH) == expected).all()


@pytest.mark.parametrize(
    ("side", "wrong", "at", "allowed"),
    [
        ("item", "item", 3, "0..2"),
        ("both", "item", -1, "0..2"),
        ("both", "request", 2, "0..1"),
        ("request", "request", 7, "0..1"),
    ],
)
def test_index_is_named_with_its_range_when_it_is_out_of_it(side: str, wrong: str, at: int, allowed: str) -> None:
    index = np.array([0, at, 0], np.int32)
    with pytest.raises(BadRequest, match=f"the row's {wrong} index is out of range") as refused:
        _fill(side, replace(_BATCH, **{f"{wrong}_index": index}))
    told = refused.value.as_dict()
    assert (told["where"], told["got"], told["allowed"]) == (f"{wrong}_index (row 1 of the batch)", str(at), allowed)


@pytest.mark.parametrize(("side", "name"), [("item", _STORED), ("both", _STORED), ("request", REQUEST_COLUMN)])
@pytest.mark.parametrize("what", ["dtype of the index", "shape of the index", "dtype of the rows", "width of the rows"])
def test_array_is_named_when_it_cannot_be_gathered(side: str, name: str, what: str) -> None:
    rows = np.ones((3, 4), np.int16) if what == "dtype of the rows" else np.ones((3, 2), np.float32)
    index = np.zeros(3, np.int64) if what == "dtype of the index" else np.zeros((3, 1), np.int32)
    if what.endswith("index"):
        bad = replace(_BATCH, request_index=index, item_index=index)
    else:
        bad = replace(_BATCH, item={_STORED: rows}, request={REQUEST_COLUMN: rows})
    with pytest.raises(EngineError, match="does not have the arrays that are gathered") as refused:
        _fill(side, bad)
    assert refused.value.where == name


def test_stored_column_is_named_when_the_batch_lacks_it() -> None:
    with pytest.raises(EngineError, match=f"{_STORED}: the batch lacks"):
        _fill("item", replace(_BATCH, item={}))

"""Lookups of many tables in one launch a row type: ragged bags, pooled, their rows dequantized on the way.

Rows are those of :class:`rankine.models.tables.Table`: float32, or INT8 and INT4 with a scale and a bias a row
(``value = q * scale + bias``, as in FBGEMM).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, power
from rankine.errors import BadRequest, EngineError
from rankine.models.tables import Table

__all__ = ["Bag", "DeviceTables", "pooled_lookup"]

_FORMS = ("float32", "int8", "int4")
_ALIGNED = 16
_FIELDS = 9
_START, _ROW_BYTES, _DIM, _SCALE, _COUNT, _VALUES, _OFFSETS, _COLUMN, _MEAN = (tl.constexpr(at) for at in range(9))


@dataclass(frozen=True)
class Bag:
    """One feature of a batch: bag ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        table: its table's name.
        values: int32 ids.
        offsets: int32 ``(bags + 1,)``.
        index: int32 ``(rows,)``: the bag of each row.
        column: of the target that the first value goes to.
        pooling: of the rows of a bag; an empty bag gives zeros.
        weights: float32, one a value; a mean is still over the number of values.
    """

    table: str
    values: np.ndarray
    offsets: np.ndarray
    index: np.ndarray
    column: int
    pooling: Literal["sum", "mean"] = "sum"
    weights: np.ndarray | None = None


class DeviceTables:
    """Tables in a device's memory, one after the other.

    Args:
        tables: by name, of float32, INT8 or INT4 rows.

    Raises:
        EngineError: a table is of another form.
    """

    def __init__(self, tables: Mapping[str, Table], device: str | torch.device = "cpu") -> None:
        parts: list[np.ndarray] = []
        scales: list[np.ndarray] = []
        self.device = torch.device(device)
        self.forms: dict[str, str] = {}
        self.places: dict[str, tuple[int, int, int, int, int]] = {}
        byte = scale = 0
        for name, table in tables.items():
            if table.form not in _FORMS:
                allowed = ", ".join(_FORMS)
                raise EngineError(
                    "a table of this form is not kept on a GPU", where=name, got=table.form, allowed=allowed
                )
            raw = np.ascontiguousarray(table.rows).view(np.uint8).reshape(-1)
            row_bytes = table.rows.shape[1] * table.rows.itemsize
            self.forms[name] = table.form
            self.places[name] = (byte, row_bytes, table.dim, scale, table.count)
            parts.append(np.pad(raw, (0, -len(raw) % _ALIGNED)))
            byte += len(parts[-1])
            if table.scale is not None and table.bias is not None:
                scales.append(np.stack([table.scale, table.bias], axis=1).astype(np.float32))
                scale += table.count
        self.rows = torch.from_numpy(np.concatenate(parts)).to(self.device)
        both = np.concatenate(scales) if scales else np.zeros((1, 2), np.float32)
        self.scales = torch.from_numpy(both).to(self.device)

    @property
    def size_bytes(self) -> int:
        return self.rows.nbytes + self.scales.nbytes


def pooled_lookup(tables: DeviceTables, bags: Sequence[Bag], target: torch.Tensor) -> None:
    """Write the pooled rows of every bag that a row has to its columns of ``target``, float32 ``(rows, columns)``.

    Raises:
        BadRequest: an id or a bag is out of range; names the table. Nothing outside a table was read.
    """
    for form in _FORMS:
        alike = [bag for bag in bags if tables.forms[bag.table] == form]
        for weighted in (False, True):
            group = [bag for bag in alike if (bag.weights is not None) is weighted]
            if group and len(target):
                _launch(tables, form, group, target, weighted=weighted)


def _launch(tables: DeviceTables, form: str, bags: Sequence[Bag], target: torch.Tensor, *, weighted: bool) -> None:
    fields = np.zeros((len(bags), _FIELDS), np.int64)
    values = offsets = 0
    for at, bag in enumerate(bags):
        if len(bag.index) and not 0 <= bag.index.min() <= bag.index.max() < len(bag.offsets) - 1:
            got, allowed = int(bag.index.max()), f"0..{len(bag.offsets) - 2}"
            raise BadRequest("a row's bag is out of range", where=bag.table, got=got, allowed=allowed)
        fields[at] = (*tables.places[bag.table], values, offsets, bag.column, bag.pooling == "mean")
        values, offsets = values + len(bag.values), offsets + len(bag.offsets)
    rows, device = len(target), tables.device
    widest = int(fields[:, 2].max())

    def moved(arrays: Sequence[np.ndarray], kind: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(one, kind).reshape(-1) for one in arrays])).to(device)

    bad = torch.zeros(len(bags), dtype=torch.int32, device=device)
    block = min(power(rows, 16), 1024) if interpreted() else 16
    _lookup[(triton.cdiv(rows, block), len(bags))](
        tables.rows,
        tables.scales,
        torch.from_numpy(fields).to(device),
        moved([bag.values for bag in bags], np.int32),
        moved([bag.offsets for bag in bags], np.int32),
        moved([bag.index for bag in bags], np.int32),
        moved([bag.weights for bag in bags if bag.weights is not None], np.float32) if weighted else None,
        target,
        bad,
        rows,
        target.stride(0),
        FORM=form,
        FIELDS=_FIELDS,
        BLOCK=block,
        WIDTH=power(widest, 16),
    )
    wrong = np.flatnonzero(bad.cpu().numpy())
    if len(wrong):
        bag = bags[int(wrong[0])]
        count = tables.places[bag.table][4]
        ids = bag.values[(bag.values < 0) | (bag.values >= count)]
        raise BadRequest("an id is out of range", where=bag.table, got=int(ids[0]), allowed=f"0..{count - 1}")


@triton.jit
def _lookup(
    tables,
    scales,
    fields,
    values,
    offsets,
    index,
    weights,
    target,
    bad,
    rows,
    target_stride,
    FORM: tl.constexpr,
    FIELDS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    feature = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDTH)
    is_row = row < rows
    own = fields + feature * FIELDS
    dim, row_bytes, count = tl.load(own + _DIM), tl.load(own + _ROW_BYTES), tl.load(own + _COUNT)
    start = tables + tl.load(own + _START)
    first_value, first_scale = tl.load(own + _VALUES), tl.load(own + _SCALE)
    bag = tl.load(index + feature * rows + row, mask=is_row, other=0) + tl.load(own + _OFFSETS)
    begin = tl.load(offsets + bag, mask=is_row, other=0)
    length = tl.load(offsets + bag + 1, mask=is_row, other=0) - begin
    pooled = tl.zeros((BLOCK, WIDTH), tl.float32)
    wrong = tl.zeros((BLOCK,), tl.int32)
    for step in range(tl.max(length, axis=0)):
        is_there = step < length
        at = first_value + begin + step
        held = tl.load(values + at, mask=is_there, other=0).to(tl.int64)
        is_known = (held >= 0) & (held < count)
        wrong += (is_there & (is_known == 0)).to(tl.int32)
        inside = (is_there & is_known)[:, None] & (column < dim)[None, :]
        if FORM == "float32":
            cells = start.to(tl.pointer_type(tl.float32), bitcast=True)
            read = tl.load(cells + (held * (row_bytes // 4))[:, None] + column[None, :], mask=inside, other=0.0)
        else:
            if FORM == "int8":
                read = tl.load(start + (held * row_bytes)[:, None] + column[None, :], mask=inside, other=0)
            else:
                place = column % row_bytes
                both = tl.load(start + (held * row_bytes)[:, None] + place[None, :], mask=inside, other=0)
                read = tl.where((column < row_bytes)[None, :], both & 15, both >> 4)
            pair = scales + (first_scale + held) * 2
            scale = tl.load(pair, mask=is_there & is_known, other=0.0)
            shift = tl.load(pair + 1, mask=is_there & is_known, other=0.0)
            read = read.to(tl.float32) * scale[:, None] + shift[:, None]
        if weights is not None:
            read *= tl.load(weights + at, mask=is_there, other=0.0)[:, None]
        pooled += read
    divisor = tl.where(tl.load(own + _MEAN) > 0, tl.maximum(length, 1), 1)
    pooled /= divisor.to(tl.float32)[:, None]
    place = target + row.to(tl.int64)[:, None] * target_stride + tl.load(own + _COLUMN) + column[None, :]
    tl.store(place, pooled, mask=is_row[:, None] & (column < dim)[None, :])
    tl.store(bad + feature, 1, mask=tl.max(wrong, axis=0) > 0)

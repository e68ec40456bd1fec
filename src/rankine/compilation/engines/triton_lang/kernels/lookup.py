"""Lookups of many features in one launch: ragged bags, pooled, and sequences, their rows dequantized on the way.

A kernel never sees an id. What it reads of a value is an *entry*: the place of a row, in bytes from the beginning of
the tables' memory, with the row's form in its last two bits. Rows of one call may thus lie anywhere on the device: in a
table, in a cache of one, or among those that came with the call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted, power

__all__ = ["FORMS", "HEADER_BYTES", "SUM_MEAN_MAX", "LookupField", "fields_of", "lookup"]

FORMS = {"float32": 0, "float16": 1, "int8": 2, "int4": 3}
"""Of rows, as entries tell them."""
HEADER_BYTES = 8
"""Scale and bias, float32, before the codes of a row of INT8 or INT4."""
SUM_MEAN_MAX = ("sum", "mean", "max")
_FIELDS = 7
_BAGS, _TARGET, _STRIDE, _DIM, _POOLING, _POSITION, _COUNT = (tl.constexpr(at) for at in range(_FIELDS))
_CALL = 4
_VALUES, _OFFSETS, _INDEX, _WEIGHTS = (tl.constexpr(at) for at in range(_CALL))


@dataclass(frozen=True)
class LookupField:
    """What one program of the kernel writes, of a block of rows.

    Attributes:
        bags: which of the call's features it reads.
        target: float that row 0 begins at in the arena, and floats from row to row.
        dim: values of a table's row.
        pooling: of ``SUM_MEAN_MAX``; of one value all give that.
        position: which value of a sequence; None for all of a bag, pooled.
        count: float that row 0's number of values goes to; None for nowhere.
    """

    bags: int
    target: int
    stride: int
    dim: int
    pooling: str = "sum"
    position: int | None = None
    count: int | None = None


def fields_of(fields: list[LookupField], device: torch.device) -> torch.Tensor:
    """Fields as :func:`lookup` takes them: int64 ``(fields, 7)``."""
    rows = [
        (
            field.bags,
            field.target,
            field.stride,
            field.dim,
            SUM_MEAN_MAX.index(field.pooling),
            -1 if field.position is None else field.position,
            -1 if field.count is None else field.count,
        )
        for field in fields
    ]
    return torch.tensor(rows, dtype=torch.int64).to(device)


def lookup(
    memory: torch.Tensor,
    packet: torch.Tensor,
    fields: torch.Tensor,
    arena: torch.Tensor,
    rows: int,
    *,
    widest: int,
    forms: tuple[str, ...],
) -> None:
    """Write what the fields say of every row of a call to the arena.

    Args:
        memory: uint8: what entries count from.
        packet: int64, what a call brings: its number of rows; of each feature, where its values, offsets, index and
            weights begin; and these. Values are int64 entries and counted in those; int32 offsets and index and float32
            weights are counted in elements of four bytes. -1 for what a feature has not: a value a bag, a bag a row, a
            weight of one. All of it is in range: whoever made it has seen to that.
        fields: of :func:`fields_of`.
        arena: float32.
        rows: at least as many as the call's.
        widest: largest ``dim``.
        forms: that rows are of.
    """
    if rows == 0 or len(fields) == 0:
        return
    block = min(power(rows, 16), 1024) if interpreted() else 16
    _lookup[(triton.cdiv(rows, block), len(fields))](
        memory,
        packet,
        fields,
        arena,
        FIELDS=_FIELDS,
        CALL=_CALL,
        FLOAT32="float32" in forms,
        FLOAT16="float16" in forms,
        INT8="int8" in forms,
        INT4="int4" in forms,
        HEADER=HEADER_BYTES,
        BLOCK=block,
        WIDTH=power(widest, 16),
    )


@triton.jit
def _row_values(
    memory,
    entry,
    is_there,
    column,
    dim,
    FLOAT32: tl.constexpr,
    FLOAT16: tl.constexpr,
    INT8: tl.constexpr,
    INT4: tl.constexpr,
    HEADER: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """The rows of entries as floats, ``(BLOCK, WIDTH)``."""
    place, form = entry & -4, entry & 3
    is_column = (column < dim)[None, :]
    found = tl.zeros((BLOCK, WIDTH), tl.float32)
    floats = memory.to(tl.pointer_type(tl.float32), bitcast=True)
    if FLOAT32:
        inside = (is_there & (form == 0))[:, None] & is_column
        found += tl.load(floats + (place >> 2)[:, None] + column[None, :], mask=inside, other=0.0)
    if FLOAT16:
        halves = memory.to(tl.pointer_type(tl.float16), bitcast=True)
        inside = (is_there & (form == 1))[:, None] & is_column
        found += tl.load(halves + (place >> 1)[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)
    if INT8 or INT4:
        is_coded = is_there & (form >= 2)
        scale = tl.load(floats + (place >> 2), mask=is_coded, other=0.0)
        shift = tl.load(floats + (place >> 2) + 1, mask=is_coded, other=0.0)
        codes = tl.zeros((BLOCK, WIDTH), tl.float32)
        if INT8:
            inside = (is_there & (form == 2))[:, None] & is_column
            read = tl.load(memory + (place + HEADER)[:, None] + column[None, :], mask=inside, other=0)
            codes += read.to(tl.float32)
        if INT4:
            inside = (is_there & (form == 3))[:, None] & is_column
            half = (dim + 1) // 2
            both = tl.load(memory + (place + HEADER)[:, None] + (column % half)[None, :], mask=inside, other=0)
            codes += tl.where((column < half)[None, :], both & 15, both >> 4).to(tl.float32)
        found += tl.where(is_coded[:, None] & is_column, codes * scale[:, None] + shift[:, None], 0.0)
    return found


@triton.jit
def _lookup(
    memory,
    packet,
    fields,
    arena,
    FIELDS: tl.constexpr,
    CALL: tl.constexpr,
    FLOAT32: tl.constexpr,
    FLOAT16: tl.constexpr,
    INT8: tl.constexpr,
    INT4: tl.constexpr,
    HEADER: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = row < tl.load(packet)
    row = row.to(tl.int64)
    column = tl.arange(0, WIDTH)
    own = fields + tl.program_id(1) * FIELDS
    call = packet + 1 + tl.load(own + _BAGS) * CALL
    whole = packet.to(tl.pointer_type(tl.int32), bitcast=True)
    numbers = packet.to(tl.pointer_type(tl.float32), bitcast=True)
    values, offsets = tl.load(call + _VALUES), tl.load(call + _OFFSETS)
    index, weights = tl.load(call + _INDEX), tl.load(call + _WEIGHTS)
    # Of scalars the interpreter makes no masks: these are (BLOCK,).
    none = row * 0
    has_index, has_lists, has_weights = none + index >= 0, none + offsets >= 0, none + weights >= 0
    bag = tl.where(has_index, tl.load(whole + index + row, mask=is_row & has_index, other=0).to(tl.int64), row)
    begin = tl.load(whole + offsets + bag, mask=is_row & has_lists, other=0).to(tl.int64)
    end = tl.load(whole + offsets + bag + 1, mask=is_row & has_lists, other=0).to(tl.int64)
    begin, end = tl.where(has_lists, begin, bag), tl.where(has_lists, end, bag + 1)
    length = tl.where(is_row, end - begin, 0)
    dim, pooling, position = tl.load(own + _DIM), tl.load(own + _POOLING), tl.load(own + _POSITION)
    taken = tl.where(position >= 0, (position < length).to(tl.int64), length)
    begin += tl.where(position >= 0, position, 0)
    pooled = tl.zeros((BLOCK, WIDTH), tl.float32) + tl.where(pooling == 2, float("-inf"), 0.0)
    for step in range(tl.max(taken, axis=0)):
        is_there = step < taken
        at = begin + step
        entry = tl.load(packet + values + at, mask=is_there, other=0)
        read = _row_values(memory, entry, is_there, column, dim, FLOAT32, FLOAT16, INT8, INT4, HEADER, BLOCK, WIDTH)
        weight = tl.load(numbers + weights + at, mask=is_there & has_weights, other=1.0)
        read *= weight[:, None]
        largest = tl.where(is_there[:, None], tl.maximum(pooled, read), pooled)
        pooled = tl.where(pooling == 2, largest, pooled + read)
    pooled = tl.where((taken > 0)[:, None], pooled, 0.0)
    divisor = tl.where((pooling == 1) & (position < 0), tl.maximum(taken, 1), 1)
    pooled /= divisor.to(tl.float32)[:, None]
    target = arena + tl.load(own + _TARGET) + row * tl.load(own + _STRIDE)
    tl.store(target[:, None] + column[None, :], pooled, mask=is_row[:, None] & (column < dim)[None, :])
    count = tl.load(own + _COUNT)
    has_count = is_row & (none + count >= 0)
    tl.store(arena + count + row * tl.load(own + _STRIDE), length.to(tl.float32), mask=has_count)

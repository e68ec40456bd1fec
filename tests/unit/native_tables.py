"""Tables of every form for the tests of the native kernels, and what NumPy reads in them."""

from __future__ import annotations

import numpy as np

from rankine import _native
from rankine.models.tables import AnyTable, MixedTable, QuotientRemainderTable, Table, pack_int4

DIMS = (1, 7, 8, 16, 17, 32, 64, 100)
PLAIN = ("float32", "float16", "int8", "int8 half", "int4", "int4 half")
FORMS = (*PLAIN, "mixed int8 half/int4 half", "mixed float32/int4", "mixed int4/float16", "product", "sum")


def make_table(rng: np.random.Generator, form: str, vocabulary: int, dim: int) -> AnyTable:
    """A table of random rows; ``half``: with scales of half precision; a mixed one has about a third of hot rows."""
    if form.startswith("mixed "):
        hot, cold = form.removeprefix("mixed ").split("/")
        is_hot = rng.random(vocabulary) < 0.3
        counts = int(is_hot.sum()), vocabulary - int(is_hot.sum())
        return MixedTable.of(make_plain(rng, hot, counts[0], dim), make_plain(rng, cold, counts[1], dim), is_hot)
    if form in ("product", "sum"):
        quotient, remainder = make_plain(rng, "int8 half", -(-vocabulary // 3), dim), make_plain(rng, "int4", 3, dim)
        return QuotientRemainderTable(quotient, remainder, vocabulary, "product" if form == "product" else "sum")
    return make_plain(rng, form, vocabulary, dim)


def make_plain(rng: np.random.Generator, form: str, count: int, dim: int) -> Table:
    if form in ("float32", "float16"):
        return Table(rng.normal(size=(count, dim)).astype(form))
    scales = np.float16 if form.endswith("half") else np.float32
    scale, bias = rng.random(count).astype(scales), rng.normal(size=count).astype(scales)
    if form.startswith("int8"):
        return Table(rng.integers(0, 256, (count, dim)).astype(np.uint8), scale, bias)
    return Table(pack_int4(rng.integers(0, 16, (count, dim))), scale, bias, dim)


def native(table: AnyTable) -> _native.Table:
    """The table for the kernels."""
    match table:
        case Table(rows=rows, scale=scale, bias=bias, columns=columns):
            return _native.plain_table(rows, scale, bias, columns)
        case MixedTable(hot=hot, cold=cold):
            return _native.mixed_table(native(hot), native(cold), table.bitmap, table.ranks, table.count)
        case QuotientRemainderTable(quotient=left, remainder=right):
            return _native.quotient_remainder_table(native(left), native(right), table.count, table.combine)


def floats(table: np.ndarray) -> _native.Table:
    return _native.plain_table(table, None, None, None)


def dense(table: AnyTable) -> np.ndarray:
    """The whole table as float32, row by row and value by value as the forms are written down."""
    match table:
        case Table(columns=None, scale=None, rows=rows):
            return rows.astype(np.float32)
        case Table(scale=scale, bias=bias):
            factor, offset = (np.asarray(part).astype(np.float32)[:, None] for part in (scale, bias))
            cells: np.ndarray = table.rows
            if table.columns is not None:
                half = -(-table.columns // 2)
                columns = [table.rows[:, d % half] >> (4 * (d // half)) & 15 for d in range(table.columns)]
                cells = np.stack(columns, axis=1)
            return np.asarray(cells.astype(np.float32) * factor + offset)
        case MixedTable():
            hot, cold = iter(dense(table.hot)), iter(dense(table.cold))
            bits = [table.bitmap[row // 8] >> row % 8 & 1 for row in range(table.count)]
            return np.array([next(hot if bit else cold) for bit in bits], np.float32).reshape(table.count, table.dim)
        case QuotientRemainderTable(remainder=remainder):
            rows_of = np.arange(table.count)
            left = dense(table.quotient)[rows_of // remainder.count]
            right = dense(remainder)[rows_of % remainder.count]
            return left * right if table.combine == "product" else left + right


def pooled(rows: np.ndarray, weights: np.ndarray | None, pooling: str) -> np.ndarray:
    """Sum or mean in the order of the values, as the kernel adds; or the largest."""
    if pooling == "max" and len(rows):
        largest: np.ndarray = rows.max(axis=0)
        return largest
    total = np.zeros(rows.shape[1], np.float32)
    for v, row in enumerate(rows):
        total += row if weights is None else weights[v] * row
    return total / np.float32(len(rows)) if pooling == "mean" and len(rows) else total


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)

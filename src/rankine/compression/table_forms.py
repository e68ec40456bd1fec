"""Embedding tables in smaller forms: INT8 and INT4 row by row, mixed by frequency, quotient and remainder.

What the forms are, and how they are read: :mod:`rankine.models.tables`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, overload

import numpy as np

from rankine.compression.table_rows import quantize_rows
from rankine.errors import ConfigError
from rankine.models.columns import Batch, Ragged
from rankine.models.schema import DenseFeature, Schema
from rankine.models.tables import AnyTable, Combine, Floats, MixedTable, QuotientRemainderTable, Table
from rankine.models.transforms import table_of

__all__ = ["PlainForm", "Scales", "mixed_table", "quantize_table", "quotient_remainder", "reads_of_tables"]

PlainForm = Literal["float32", "float16", "int8", "int4"]
Scales = Literal["float16", "float32"]

_LARGEST_LOSS = 1.1
"""Half-precision scales are kept where the squared error grows by less than this factor."""
_ROUNDS = 15
_UNREAD = 0.1
"""Weight of a row that was never read, in reads: it is fitted too, as far as it costs the others little."""


@overload
def quantize_table(
    table: QuotientRemainderTable, form: PlainForm, *, scales: Scales = ...
) -> QuotientRemainderTable: ...


@overload
def quantize_table(table: Table | MixedTable, form: PlainForm, *, scales: Scales = ...) -> Table: ...


def quantize_table(table: AnyTable, form: PlainForm, *, scales: Scales = "float16") -> Table | QuotientRemainderTable:
    """The table with rows of this form; of a quotient-remainder table both parts.

    INT8 and INT4 rows have a scale and a bias each, see :mod:`rankine.compression.table_rows`; rows so narrow that they
    would be no smaller than halves become halves.

    Args:
        scales: type of scale and bias. ``float16`` (4 bytes a row, not 8) is used where the table can bear it: scale
            and bias are rounded outward first and the values quantized with what came out, so that the row's range
            stays covered; where the squared error grows by a tenth all the same (values far from zero that differ
            little, or beyond the halves' range), scales are float32.
    """
    if isinstance(table, QuotientRemainderTable):
        quotient, remainder = (quantize_table(part, form, scales=scales) for part in (table.quotient, table.remainder))
        return replace(table, quotient=quotient, remainder=remainder)
    rows = table.dequantized()
    if form == "float32" or form == "float16":
        return Table(rows.astype(form))
    fits_halves = bool((np.abs(rows) <= np.finfo(np.float16).max).all())
    if fits_halves and _row_bytes(table.dim, form, scales) >= table.dim * np.dtype(np.float16).itemsize:
        return Table(rows.astype(np.float16))
    if scales == "float32" or not fits_halves:
        return quantize_rows(rows, form, np.float32)[0]
    half, error = quantize_rows(rows, form, np.float16)
    single, least = quantize_rows(rows, form, np.float32)
    return half if error <= _LARGEST_LOSS * least else single


def mixed_table(
    table: AnyTable,
    counts: np.ndarray,
    *,
    hot_share: float,
    hot: PlainForm = "int8",
    cold: PlainForm = "int4",
    scales: Scales = "float16",
) -> MixedTable:
    """The table with its most read rows in the form ``hot``, the others in the form ``cold``.

    Args:
        counts: ``(vocabulary,)`` how often each row is read, see :func:`reads_of_tables`.
        hot_share: of the rows (not of the reads), rounded to a whole number of rows; among equals the lower ids.

    Raises:
        ConfigError: the share is not from 0 to 1, or ``counts`` is of another table.
    """
    if not 0.0 <= hot_share <= 1.0:
        raise ConfigError("the share of hot rows is out of range", where="hot_share", got=hot_share, allowed="0..1")
    _check_counts(table, counts)
    rows = table.dequantized()
    is_hot = np.zeros(table.count, bool)
    is_hot[np.argsort(-counts, kind="stable")[: round(hot_share * table.count)]] = True
    return MixedTable.of(
        quantize_table(Table(rows[is_hot]), hot, scales=scales),
        quantize_table(Table(rows[~is_hot]), cold, scales=scales),
        is_hot,
    )


def quotient_remainder(
    table: AnyTable, buckets: int, counts: np.ndarray, *, combine: Combine = "product", seed: int = 0
) -> QuotientRemainderTable:
    """The trained rows as ``Q[id // buckets]`` times (or plus) ``R[id % buckets]``, in float32.

    Shi et al. (KDD 2020) train both parts from scratch. Here they are fitted to the rows, each row weighted by its
    reads, by alternating weighted least squares: with one part fixed the other is a weighted mean, column by column.
    A start for fine-tuning rather than a result: a table of independent rows is not of this form.

    Args:
        buckets: rows of the remainder part, ``1..count``; about ``sqrt(count)`` makes the smallest table.
        counts: ``(vocabulary,)`` how often each row is read.
        seed: of the start.

    Raises:
        ConfigError: ``buckets`` is out of range, or ``counts`` is of another table.
    """
    if not 1 <= buckets <= max(table.count, 1):
        allowed = f"1..{max(table.count, 1)}"
        raise ConfigError("the number of buckets is out of range", where="buckets", got=buckets, allowed=allowed)
    _check_counts(table, counts)
    quotients = -(-table.count // buckets)
    values = np.zeros((quotients * buckets, table.dim))
    values[: table.count] = table.dequantized()
    weights = np.zeros(quotients * buckets)
    weights[: table.count] = counts + _UNREAD
    cube, weight = values.reshape(quotients, buckets, table.dim), weights.reshape(quotients, buckets)
    left: Floats = np.zeros((quotients, table.dim))
    right: Floats = np.random.default_rng(seed).normal(size=(buckets, table.dim))
    # Alike at first: then the best product is the largest singular pair, which any start leads to.
    for weighing in [(weight > 0).astype(float)] * _ROUNDS + [weight] * _ROUNDS:
        left = _fitted(cube, weighing, right, combine)
        right = _fitted(cube.swapaxes(0, 1), weighing.T, left, combine)
    if combine == "product":
        left, right = _balanced(left, right)
    quotient, remainder = (Table(part.astype(np.float32)) for part in (left, right))
    return QuotientRemainderTable(quotient, remainder, table.count, combine)


def reads_of_tables(batch: Batch, schema: Schema, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """How often the rows of a batch read each row of each table; int64 ``(vocabulary,)`` by table.

    Args:
        batch: training rows, encoded.
        sizes: rows of each table. An id outside of its table is not counted.
    """
    reads = {table: np.zeros(size, np.int64) for table, size in sizes.items()}
    for feature in schema.features:
        if isinstance(feature, DenseFeature):
            continue
        side = "pair" if feature.per_row else feature.side
        columns = batch.request if side == "request" else batch.item if side == "item" else batch.pair
        index = batch.request_index if side == "request" else batch.item_index if side == "item" else None
        column = columns[feature.name]
        uses = np.ones(batch.rows, np.int64) if index is None else np.bincount(index, minlength=len(column))
        ids = column.values if isinstance(column, Ragged) else column
        if isinstance(column, Ragged):
            uses = np.repeat(uses, np.diff(column.offsets))
        total = reads[table_of(feature)]
        known = (ids >= 0) & (ids < len(total))
        np.add.at(total, ids[known], uses[known])
    return reads


def _check_counts(table: AnyTable, counts: np.ndarray) -> None:
    if counts.shape != (table.count,):
        raise ConfigError(
            "the reads are of another table", where="counts", got=counts.shape, allowed=f"({table.count},)"
        )


def _row_bytes(dim: int, form: Literal["int8", "int4"], scales: Scales) -> int:
    return (-(-dim // 2) if form == "int4" else dim) + 2 * np.dtype(scales).itemsize


def _fitted(rows: Floats, weights: Floats, right: Floats, combine: Combine) -> Floats:
    """One part ``(a, dim)`` where the other is ``right (b, dim)``: least squares of rows ``(a, b, dim)``, weighted."""
    if combine == "sum":
        sums: Floats = np.einsum("abd,ab->ad", rows, weights) - weights @ right
        means: Floats = sums / weights.sum(axis=1)[:, None]
        return means
    products: Floats = np.einsum("abd,ab,bd->ad", rows, weights, right, optimize=True)
    squares = weights @ np.square(right)
    fitted: Floats = products / np.where(squares > 0, squares, 1)
    return fitted


def _balanced(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Both parts with columns of like size, so that neither loses more than the other when it is quantized."""
    sizes = [np.sqrt(np.square(part).mean(axis=0)) for part in (left, right)]
    factor = np.sqrt(np.divide(sizes[1], sizes[0], out=np.ones_like(sizes[0]), where=sizes[0] * sizes[1] > 0))
    return left * factor, right / factor

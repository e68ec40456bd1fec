"""Embedding tables: three forms behind the same properties, all of which the lookup reads in place.

* :class:`Table`: one array of rows, of floats or of INT8 or INT4 with a scale and a bias a row.
* :class:`MixedTable`: some rows in one form, the others in another.
* :class:`QuotientRemainderTable`: a row is put together from a row of each of two small tables.

Every form has ``count`` (rows, the vocabulary), ``dim`` (values in a row), ``size_bytes``, ``read_bytes`` (what reading
one row touches, at most), ``form`` (in words), ``take(ids, dtype)``, ``dequantized(dtype)`` and ``check(where)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rankine.errors import EngineError

__all__ = ["AnyTable", "Combine", "Floats", "MixedTable", "QuotientRemainderTable", "Table", "pack_int4"]

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Combine = Literal["product", "sum"]

_WORD = 64
"""Rows of a mixed table for which one rank is kept: popcounts are taken of 64-bit words."""
_DTYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class Table:
    """A plain table: rows of float32 or float16, or of INT8 or INT4 (``value = q * scale + bias``, as in FBGEMM).

    Attributes:
        rows: ``(count, dim)`` float32, float16 or uint8; of INT4 uint8 ``(count, ceil(dim / 2))``: :func:`pack_int4`.
        scale, bias: ``(count,)`` float32 or (both) float16 where rows are quantized, else None.
        columns: values in a row of INT4, where two share a byte; None for every other form.
    """

    rows: np.ndarray
    scale: np.ndarray | None = None
    bias: np.ndarray | None = None
    columns: int | None = None

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        return int(self.rows.shape[1]) if self.columns is None else self.columns

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.rows, self.scale, self.bias) if part is not None)

    @property
    def read_bytes(self) -> int:
        scales = sum(part.itemsize for part in (self.scale, self.bias) if part is not None)
        return int(self.rows.shape[1]) * self.rows.itemsize + scales

    @property
    def form(self) -> str:
        """``float32``, ``float16``, ``int8`` or ``int4``."""
        if self.columns is not None:
            return "int4"
        return "int8" if self.rows.dtype == np.uint8 else str(self.rows.dtype)

    def take(self, ids: np.ndarray, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """Rows ``ids (n,)`` as floats, ``(n, dim)``; only these are converted."""
        return self._floats(ids, dtype)

    def dequantized(self, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """All rows as floats, ``(count, dim)``."""
        return self._floats(slice(None), dtype)

    def check(self, where: str) -> None:
        """Refuse a table that cannot be read.

        Raises:
            EngineError: a type or shape is wrong; names ``where``.
        """
        if self.rows.ndim != 2 or str(self.rows.dtype) not in _DTYPES:
            got = f"{self.rows.dtype} {self.rows.shape}"
            allowed = f"(vocabulary, dim) of {', '.join(_DTYPES)}"
            raise EngineError("a table of this form cannot be read", where=where, got=got, allowed=allowed)
        if self.columns is not None and (
            self.rows.dtype != np.uint8 or self.columns < 0 or self.rows.shape[1] != -(-self.columns // 2)
        ):
            got = f"{self.rows.dtype} {self.rows.shape} for {self.columns} columns"
            raise EngineError("INT4 rows do not fit their columns", where=where, got=got, allowed="two values a byte")
        quantized = self.rows.dtype == np.uint8
        for part, values in (("scale", self.scale), ("bias", self.bias)):
            if (values is not None) != quantized:
                raise EngineError(f"a {self.rows.dtype} table has {'no' if quantized else 'a'} {part}", where=where)
            if values is not None and (
                values.shape != self.rows.shape[:1] or values.dtype not in (np.float32, np.float16)
            ):
                got = f"{values.dtype} {values.shape}"
                allowed = "one float32 or float16 a row"
                raise EngineError(f"{part} does not fit the table", where=where, got=got, allowed=allowed)
        if self.scale is not None and self.bias is not None and self.scale.dtype != self.bias.dtype:
            got = f"{self.scale.dtype} and {self.bias.dtype}"
            raise EngineError("scale and bias are of different types", where=where, got=got, allowed="one type")

    def _floats(self, at: np.ndarray | slice, dtype: type[np.floating[Any]]) -> Floats:
        cells = self.rows[at] if self.columns is None else _unpack_int4(self.rows[at], self.columns)
        values: Floats = np.asarray(cells, dtype)
        if self.scale is None or self.bias is None:
            return values
        scaled: Floats = values * self.scale[at].astype(dtype)[:, None] + self.bias[at].astype(dtype)[:, None]
        return scaled


@dataclass(frozen=True)
class MixedTable:
    """A table in two parts: the rows that are read often in a better form, the rest in a smaller one.

    A bit a row says in which part it lies, and the sampled ranks where: 1.5 bits a row, and no other remap of ids. (The
    succinct rank structure of Jacobson, FOCS 1989, with one level.)

    Attributes:
        hot, cold: the parts, in the order of ids.
        bitmap: ``(8 * words,)`` uint8 with ``words = ceil(count / 64)``; bit ``id % 8`` of byte ``id // 8`` is set
            where row ``id`` is hot; zero past the last row.
        ranks: ``(words,)`` int32: hot rows before row ``64 * word``.
        count: of rows.
    """

    hot: Table
    cold: Table
    bitmap: np.ndarray
    ranks: np.ndarray
    count: int

    @staticmethod
    def of(hot: Table, cold: Table, is_hot: np.ndarray) -> MixedTable:
        """The table whose rows lie in ``hot`` where ``is_hot (count,)`` is set, else in ``cold``."""
        words = -(-len(is_hot) // _WORD)
        bits = np.zeros(words * _WORD, bool)
        bits[: len(is_hot)] = is_hot
        ranks = np.cumsum([0, *bits.reshape(words, _WORD).sum(axis=1)])[:words]
        return MixedTable(hot, cold, np.packbits(bits, bitorder="little"), ranks.astype(np.int32), len(is_hot))

    @property
    def dim(self) -> int:
        return self.hot.dim

    @property
    def size_bytes(self) -> int:
        return self.hot.size_bytes + self.cold.size_bytes + self.bitmap.nbytes + self.ranks.nbytes

    @property
    def read_bytes(self) -> int:
        return max(self.hot.read_bytes, self.cold.read_bytes) + _WORD // 8 + self.ranks.itemsize

    @property
    def form(self) -> str:
        """``mixed int8/int4``."""
        return f"mixed {self.hot.form}/{self.cold.form}"

    def take(self, ids: np.ndarray, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """Rows ``ids (n,)`` as floats, ``(n, dim)``; only these are converted."""
        is_hot, at = self.places(ids)
        rows: Floats = np.empty((len(ids), self.dim), dtype)
        rows[is_hot] = self.hot.take(at[is_hot], dtype)
        rows[~is_hot] = self.cold.take(at[~is_hot], dtype)
        return rows

    def places(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether rows ``ids (n,)`` are hot, and where they lie in their part: bool and int64 ``(n,)``."""
        words, bit = np.divmod(ids, _WORD)
        bits = np.unpackbits(self.bitmap.reshape(-1, _WORD // 8)[words], axis=1, bitorder="little")
        is_hot = np.take_along_axis(bits, bit[:, None], axis=1)[:, 0] != 0
        before = self.ranks[words] + (bits * (np.arange(_WORD) < bit[:, None])).sum(axis=1, dtype=np.int64)
        return is_hot, np.where(is_hot, before, ids - before)

    def dequantized(self, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """All rows as floats, ``(count, dim)``."""
        is_hot = np.unpackbits(self.bitmap, count=self.count, bitorder="little") != 0
        rows: Floats = np.empty((self.count, self.dim), dtype)
        rows[is_hot], rows[~is_hot] = self.hot.dequantized(dtype), self.cold.dequantized(dtype)
        return rows

    def check(self, where: str) -> None:
        """Refuse a table that cannot be read: after this, every row of it lies in its part.

        Raises:
            EngineError: a part, the bitmap or the ranks are wrong; names ``where``.
        """
        self.hot.check(f"{where} (hot rows)")
        self.cold.check(f"{where} (cold rows)")
        words = -(-self.count // _WORD)
        for part, values, shape, dtype in (
            ("bitmap", self.bitmap, (words * _WORD // 8,), np.uint8),
            ("ranks", self.ranks, (words,), np.int32),
        ):
            if values.shape != shape or values.dtype != dtype:
                got, allowed = f"{values.dtype} {values.shape}", f"{np.dtype(dtype)} {shape}"
                raise EngineError(f"{part} does not fit {self.count} rows", where=where, got=got, allowed=allowed)
        bits = np.unpackbits(self.bitmap, bitorder="little")
        rows = bits.reshape(words, _WORD).sum(axis=1, dtype=np.int64)
        hot, cold = int(rows.sum()), self.count - int(rows.sum())
        if not np.array_equal(self.ranks, np.cumsum(rows) - rows) or bits[self.count :].any():
            raise EngineError("the ranks do not fit the bitmap", where=where, allowed="hot rows before each 64 rows")
        if (self.hot.count, self.cold.count) != (hot, cold) or self.hot.dim != self.cold.dim:
            got = f"{self.hot.count} x {self.hot.dim} and {self.cold.count} x {self.cold.dim}"
            allowed = f"{hot} and {cold} rows of one width"
            raise EngineError("the hot and cold rows do not fit the bitmap", where=where, got=got, allowed=allowed)


@dataclass(frozen=True)
class QuotientRemainderTable:
    """Row ``id`` is ``quotient[id // m]`` times (or plus) ``remainder[id % m]``, with ``m`` rows in ``remainder``.

    "Compositional Embeddings Using Complementary Partitions" (Shi et al., KDD 2020, arXiv 1909.02107): every id keeps a
    row of its own, from about ``2 * sqrt(count)`` rows.

    Attributes:
        quotient: ``(ceil(count / m), dim)``.
        remainder: ``(m, dim)``.
        count: of rows.
        combine: ``product`` or ``sum``, element by element.
    """

    quotient: Table
    remainder: Table
    count: int
    combine: Combine = "product"

    @property
    def dim(self) -> int:
        return self.remainder.dim

    @property
    def size_bytes(self) -> int:
        return self.quotient.size_bytes + self.remainder.size_bytes

    @property
    def read_bytes(self) -> int:
        return self.quotient.read_bytes + self.remainder.read_bytes

    @property
    def form(self) -> str:
        """``quotient-remainder int8``; with both forms where they differ."""
        forms = dict.fromkeys((self.quotient.form, self.remainder.form))
        return f"quotient-remainder {'/'.join(forms)}"

    def take(self, ids: np.ndarray, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """Rows ``ids (n,)`` as floats, ``(n, dim)``; only these are converted."""
        quotients, remainders = np.divmod(ids, self.remainder.count)
        left, right = self.quotient.take(quotients, dtype), self.remainder.take(remainders, dtype)
        return left * right if self.combine == "product" else left + right

    def dequantized(self, dtype: type[np.floating[Any]] = np.float32) -> Floats:
        """All rows as floats, ``(count, dim)``."""
        return self.take(np.arange(self.count), dtype)

    def check(self, where: str) -> None:
        """Refuse a table that cannot be read.

        Raises:
            EngineError: a part is wrong, or has too few rows; names ``where``.
        """
        self.quotient.check(f"{where} (quotient)")
        self.remainder.check(f"{where} (remainder)")
        needed = -(-self.count // self.remainder.count) if self.remainder.count else None
        if self.quotient.count != needed or self.quotient.dim != self.remainder.dim:
            got = f"{self.quotient.count} x {self.quotient.dim} and {self.remainder.count} x {self.remainder.dim}"
            allowed = "rows // m rounded up, and m, of one width"
            raise EngineError(f"the parts do not make {self.count} rows", where=where, got=got, allowed=allowed)
        if self.combine not in ("product", "sum"):
            raise EngineError("unknown way to combine", where=where, got=self.combine, allowed="product, sum")


AnyTable = Table | MixedTable | QuotientRemainderTable


def pack_int4(values: np.ndarray) -> np.ndarray:
    """Values 0..15 ``(n, dim)``, two a byte: ``(n, ceil(dim / 2))`` uint8.

    The first half of a row lies in the low four bits, the second in the high four: so both halves are read side by
    side. (Neighbors in one byte, as FBGEMM has them, would have to be shuffled apart.)
    """
    half = -(-values.shape[1] // 2)
    packed = values[:, :half].astype(np.uint8)
    packed[:, : values.shape[1] - half] |= values[:, half:].astype(np.uint8) << 4
    return packed


def _unpack_int4(packed: np.ndarray, columns: int) -> np.ndarray:
    return np.concatenate([packed & 15, packed >> 4], axis=1)[:, :columns]

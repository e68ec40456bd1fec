"""Native kernels: C++ loops over NumPy arrays, which release the GIL where it takes longer than to get it again.

Arrays must be C-contiguous and of exactly the dtype named; nothing is copied or converted. Read-only arrays (mapped
tables) are accepted, except as ``out``. An argument of a wrong kind or dtype raises ``TypeError``, of a wrong shape,
order or size ``ValueError``; both messages begin with the argument's name.

A table is checked once, when it is made, and keeps its arrays; its arrays must not be written to afterwards. The
lookups check every index, offset and value before it is used. They return the position of the first bad row, else
-1; after a bad row nothing out of range was read, and ``out`` is partly written. ``out`` must not overlap an input.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def check_ids(ids: NDArray[np.int32] | NDArray[np.int64], rows: int) -> int:
    """Position of the first of ``ids (n,)`` that lies outside ``[0, rows)``, else -1."""

def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Positions ``(min(k, n),)`` of the best of ``scores (n,)``: descending, ties by lower position, NaN last."""

def best_ids(
    ids: NDArray[np.int64], logits: NDArray[np.float32], k: int, sigmoid: bool
) -> tuple[list[int], list[float]]:
    """The best ``k`` of ``ids (n,)`` by ``logits (n, 1)``, in the order of :func:`top_k`, and their scores: those
    logits, through a sigmoid if told so."""

def best_json(ids: NDArray[np.int64], logits: NDArray[np.float32], k: int, sigmoid: bool) -> tuple[bytes, bytes]:
    """What :func:`best_ids` returns, as JSON lists; a score that is no finite number is null."""

def read_plain_request(
    data: bytes, lines: Sequence[bytes], most_head: int
) -> tuple[int, dict[bytes, bytes], int] | None:
    """The JSON request over HTTP/1.1 that ``data`` is, no more and no less: which of ``lines`` is its first, its fields
    by name, and the bytes of its head.

    Names are lower case, values printable ASCII without spaces around. None: it is none with a head of at most
    ``most_head`` bytes and a body of the announced length, or one that a plain client would not send, as with a field
    given twice, or one that says how to read or to answer it.
    """

class Reactor:
    """Connections whose requests are read together, by one thread: whole plain requests are told in one call, and those
    that are known to be refused are answered without one. Linux only: elsewhere making one raises ``RuntimeError``.

    (Schmidt, "Reactor: An object behavioral pattern for concurrent event demultiplexing and event handler
    dispatching", 1995.)
    """

    def __init__(
        self,
        lines: Sequence[bytes],
        *,
        most_head: int,
        most_body: int,
        most_rows: int,
        budget_s: float,
        most_wait_s: float,
        id_prefix: bytes,
        id_digits: int,
    ) -> None:
        """Args:
        lines: the first lines of requests that are read here.
        most_head, most_body: bytes of such a request.
        most_rows: that a request may announce.
        budget_s: of a request without deadline. ``most_wait_s``: by which every one is due.
        id_prefix: of the ids of requests that are refused here, before so many ``id_digits``.
        """

    @property
    def descriptor(self) -> int:
        """Can be read while one of the connections can."""

    def add(self, socket: int, key: int) -> None:
        """Watch a socket, under a key that is no other's; ``RuntimeError``: the system will not."""

    def remove(self, key: int) -> None:
        """Forget it; nothing happens where it is not known."""

    def ready(self, key: int) -> None:
        """All that came on a connection is answered: until the next request of it is told, what comes may be refused.

        So it is when a connection is added.
        """

    def read(self, most: int) -> list[tuple[int, bytes] | tuple[int, bytes, int, dict[bytes, bytes], int, float]]:
        """What is there of up to ``most`` connections.

        ``(key, data, line, headers, head_bytes, waited_s)`` of a plain request, which has lain so long in the kernel;
        ``(key, data)`` of anything else, empty where the connection has ended: that is for others to read, who are to
        :meth:`remove` it.
        """

    def refuse(
        self, refused: Sequence[tuple[float, float, float, int, float, int]], parts: Sequence[bytes], until_s: float
    ) -> None:
        """Until then refuse whoever is like one of these ``(from_s, due_s, left_s, rows, waited_s, kind)``: due between
        these, with no more time left, of at least so many rows, and has waited for so long; the kind is the caller's.

        Who brings an id, a trace, a tenant, a session or a priority is never refused here.

        Args:
            parts: of the answer: between them stands the request's id.
            until_s: on the clock of ``time.perf_counter``.
        """

    def take_refused(self) -> tuple[list[tuple[int, float, int]], int]:
        """Of each that was refused since the last call the kind, the seconds that it had waited, and the connection's
        key; then the rows of all."""

    def send(self, key: int, data: bytes) -> int:
        """How many bytes of ``data`` were sent at once."""

def ms_since_data(descriptor: int) -> int:
    """Milliseconds since data last came in on the TCP connection ``descriptor``; -1 where the kernel does not tell."""

def read_id_list(text: bytes) -> NDArray[np.int64] | None:
    """The whole numbers of a JSON list, ``(n,)``.

    None where it is anything else, or holds a number of more than 18 digits: it may be valid JSON all the same.
    """

def find_places(ids: NDArray[np.int64], first: int, at: NDArray[np.int32]) -> NDArray[np.int64]:
    """``at[id - first]`` of each of ``ids (n,)``, ``(n,)``; the last entry of ``at`` stands for all ids outside."""

class Table:
    """An embedding table: the arrays of a form of :mod:`rankine.models.tables`, for the lookups."""

    @property
    def count(self) -> int: ...
    @property
    def dim(self) -> int: ...

def plain_table(
    rows: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8],
    scale: NDArray[np.float32] | NDArray[np.float16] | None,
    bias: NDArray[np.float32] | NDArray[np.float16] | None,
    columns: int | None,
) -> Table:
    """Rows of floats, or quantized: ``value = q * scale[row] + bias[row]``.

    Args:
        rows: ``(vocabulary, dim)``; of INT4 ``(vocabulary, ceil(columns / 2))``.
        scale: ``(vocabulary,)`` for uint8, else None.
        bias: ``(vocabulary,)`` for uint8, of the dtype of ``scale``, else None.
        columns: values in a row of INT4 (the first half in the low four bits of the bytes, the second in the high
            four); None for every other form.
    """

def mixed_table(hot: Table, cold: Table, bitmap: NDArray[np.uint8], ranks: NDArray[np.int32], count: int) -> Table:
    """Rows of ``hot`` where their bit is set, else of ``cold``; both are plain, and in the order of ids.

    Args:
        bitmap: ``(8 * words,)`` with ``words = ceil(count / 64)``; bit ``id % 8`` of byte ``id // 8``;
            zero past the end.
        ranks: ``(words,)``: set bits before row ``64 * word``.
        count: rows.
    """

def quotient_remainder_table(quotient: Table, remainder: Table, count: int, combine: str) -> Table:
    """Row ``id`` is ``quotient[id // m]`` and ``remainder[id % m]``, multiplied or added; both are plain.

    Args:
        quotient: ``(ceil(count / m), dim)``.
        remainder: ``(m, dim)``.
        count: rows.
        combine: ``product`` or ``sum``.
    """

def lookup_one(
    table: Table, values: NDArray[np.int32], index: NDArray[np.int32], out: NDArray[np.float32], column: int
) -> int:
    """``out[r, column:column + dim] = table[values[index[r]]]`` for every ``r``.

    Args:
        table: ``(vocabulary, dim)``.
        values: ``(n,)`` rows of the table.
        index: ``(rows,)`` positions in ``values``.
        out: ``(rows, width)`` with ``column + dim <= width``.
        column: where the slice begins.

    Returns:
        The first ``r`` whose index or value is out of range, else -1.
    """

def lookup_bag(
    table: Table,
    values: NDArray[np.int32],
    offsets: NDArray[np.int32],
    weights: NDArray[np.float32] | None,
    index: NDArray[np.int32],
    out: NDArray[np.float32],
    column: int,
    pooling: str,
) -> int:
    """As :func:`lookup_one`, pooled over the bag ``values[offsets[i]:offsets[i + 1]]`` with ``i = index[r]``.

    Args:
        table: as in :func:`lookup_one`, like ``index``, ``out`` and ``column``.
        values: ``(m,)`` rows of the table.
        offsets: ``(bags + 1,)``, non-decreasing, within ``[0, m]``.
        weights: ``(m,)`` factors of the values, or None for all one.
        pooling: ``sum`` of the (weighted) rows, ``mean`` (the sum over the number of values in the bag), or ``max`` of
            each column (without weights); an empty bag is zero.

    Returns:
        The first ``r`` whose index, offsets or values are out of range, else -1.
    """

def lookup_sequence(
    table: Table,
    values: NDArray[np.int32],
    offsets: NDArray[np.int32],
    weights: NDArray[np.float32] | None,
    index: NDArray[np.int32],
    out: NDArray[np.float32],
    column: int,
    length: int,
) -> int:
    """As :func:`lookup_bag`, not pooled: the (weighted) rows of the bag, zeros up to ``length`` rows, their number.

    Args:
        length: most values of a bag; ``length * dim + 1`` columns are written.

    Returns:
        The first ``r`` whose index, offsets or values are out of range or whose bag is longer than ``length``, else -1.
    """

def gather_dense(values: NDArray[np.float32], index: NDArray[np.int32], out: NDArray[np.float32], column: int) -> int:
    """``out[r, column:column + d] = values[index[r]]`` with ``values (n, d)``; the first bad ``r``, else -1."""

def gather_slice(
    rows: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8],
    scale: NDArray[np.float32] | None,
    bias: NDArray[np.float32] | None,
    start: int,
    width: int,
    index: NDArray[np.int32],
    out: NDArray[np.float32],
    column: int,
    added: NDArray[np.float32] | None,
    added_index: NDArray[np.int32] | None,
    added_start: int,
) -> int:
    """``out[r, column:column + width] = rows[index[r], start:start + width]``, with a slice of another row added to it.

    Args:
        rows: ``(n, d)`` with ``start + width <= d``; uint8 is ``q * scale[row] + bias[row]``.
        scale, bias: ``(n,)`` for uint8, else None.
        index: ``(rows,)`` positions in ``rows``.
        out: ``(rows, w)`` with ``column + width <= w``.
        added: ``(m, k)``: ``added[added_index[r], added_start:added_start + width]`` is added; None for nothing.
        added_index: ``(rows,)`` positions in ``added``.

    Returns:
        The first ``r`` with an index out of range, else -1.
    """

def gather_rounded(
    rows: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8],
    scale: NDArray[np.float32] | None,
    bias: NDArray[np.float32] | None,
    start: int,
    width: int,
    index: NDArray[np.int32],
    out: NDArray[np.uint8],
    column: int,
    added: NDArray[np.float32] | None,
    added_index: NDArray[np.int32] | None,
    added_start: int,
    floor: float,
    step: float,
    zero: int,
) -> int:
    """As :func:`gather_slice`, rounded as ``QuantizeLinear`` of ONNX: ``clamp(round(max(x, floor) / step) + zero)``.

    Args:
        out: uint8 ``(rows, w)``.
        floor: 0 for a ReLU before the rounding, else minus infinity. NaN becomes the floor.
        step: positive.
        zero: from 0 to 255.
    """

class Program:
    """A program of the native engine, read in place from the contents of its file (``native/fused/format.h``).

    Everything that the file says is checked here: sizes, offsets, indices.

    Raises:
        ValueError: it is no program, or a damaged one; says what is wrong.
    """

    def __init__(self, contents: NDArray[np.uint8]) -> None: ...
    @property
    def inputs(self) -> list[tuple[int, str]]:
        """Columns and type (``float32`` or ``uint8``) of each input."""

    @property
    def tasks(self) -> int:
        """Columns of the output."""

    @property
    def row_bytes(self) -> int:
        """Of the arena, for each row of a tile."""

    @property
    def weight_bytes(self) -> int: ...

class FusedRunner:
    """One program a row, and one a request before it if there is one; see :mod:`rankine.compilation.fused.runner`.

    A source is a tuple of twelve: origin (``one``, ``bag``, ``sequence``, ``dense``, ``stored``), side (``request``,
    ``item``, ``pair``), number of the array that it reads, table or None, pooling or None, length of a sequence, input,
    first column in it, columns, first column of a stored row, first column of the request's row that is added or
    None, rounding ``(step, zero, lowest code)`` or None.

    An array is int32 ``(n,)`` for ``one``; ``(values, offsets, weights or None)`` for lists; float32 ``(n, width)`` for
    ``dense``; rows of float32 or float16, or ``(rows, scale, bias)`` of uint8 for ``stored``.

    Raises:
        ValueError: a source does not fit its program, or the processor does not have the instruction set.
    """

    def __init__(
        self,
        request: Program | None,
        request_sources: list[Any],
        candidate: Program,
        candidate_sources: list[Any],
        rows: int,
        threads: int,
        instruction_set: str,
    ) -> None: ...
    def run(
        self,
        request_arrays: list[Any],
        requests: int,
        arrays: list[Any],
        request_index: NDArray[np.int32],
        item_index: NDArray[np.int32],
        out: NDArray[np.float32],
    ) -> tuple[bool, int, int] | None:
        """Write the logits ``(rows, tasks)`` to ``out``.

        Returns:
            None; or, of the first row with an index or an id out of range: whether it is a request's, the number of
            the source that found it, and the row.
        """

    def profile(
        self,
        request_arrays: list[Any],
        requests: int,
        arrays: list[Any],
        request_index: NDArray[np.int32],
        item_index: NDArray[np.int32],
        out: NDArray[np.float32],
    ) -> tuple[list[int], list[int]]:
        """Nanoseconds of each source and then of each operation, of the request's program and of the rows', in one call
        on one thread."""

    def timed(
        self,
        request_arrays: list[Any],
        requests: int,
        arrays: list[Any],
        request_index: NDArray[np.int32],
        item_index: NDArray[np.int32],
        out: NDArray[np.float32],
        repeats: int,
    ) -> list[int]:
        """Nanoseconds of each of ``repeats`` calls, as a caller in C++ has them: nothing of Python in between."""

    @property
    def tile_rows(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...

def instruction_sets() -> list[str]:
    """Those that this processor has, the best first: of ``amx``, ``avx512``, ``avx2``, ``portable``."""

def int8_peak() -> tuple[str, float] | None:
    """The fastest INT8 instruction, and operations a second of one core with it on registers alone; None without
    AVX-512 VNNI. Takes a few milliseconds."""

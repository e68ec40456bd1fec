"""Rows of a table in a device's memory: all of them, or those that are asked for most.

What is asked for is counted. Of the rows that were missed, those that were asked for more often take the place of rows
that were asked for less, of a few that are drawn at random: approximately the least frequently used (as in Redis).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.kernels.lookup import FORMS, HEADER_BYTES
from rankine.models.tables import Table

__all__ = ["Exchange", "Gate", "HeldTable", "record_bytes", "records"]

_ALIGNED = 4
_AT_ONCE = 1 << 18
"""Rows that are made into records and copied together."""
_REFRESH_AFTER = 4096
"""Missed values after which the cache looks for better rows."""
_DRAWN = 4
"""Cached rows that are looked at for each that wants in."""
_AGED_AFTER = 16
"""Values counted, for each row of the cache, after which all counts are halved: what was asked for long ago fades."""


def record_bytes(table: Table) -> int:
    """Bytes of a row as it lies on the device."""
    header = 0 if table.scale is None else HEADER_BYTES
    row = int(table.rows.shape[1]) * table.rows.itemsize
    return header + -(-row // _ALIGNED) * _ALIGNED


def records(table: Table, at: np.ndarray | slice) -> np.ndarray:
    """Rows as they lie on the device, uint8 ``(n, record_bytes)``: scale and bias, float32, then its own bytes."""
    held = np.ascontiguousarray(table.rows[at])
    raw = held.view(np.uint8).reshape(len(held), table.rows.shape[1] * table.rows.itemsize)
    out = np.zeros((len(raw), record_bytes(table)), np.uint8)
    start = 0
    if table.scale is not None and table.bias is not None:
        pairs = np.stack([table.scale[at], table.bias[at]], axis=1).astype(np.float32)
        start = HEADER_BYTES
        out[:, :start] = pairs.view(np.uint8).reshape(len(raw), start)
    out[:, start : start + raw.shape[1]] = raw
    return out


class Gate:
    """Calls pass together; who changes what they read waits until none is inside, and lets none in meanwhile."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._free:
                self._inside -= 1
                self._free.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._closed)
            self._closed = True
            self._free.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._free:
                self._closed = False
                self._free.notify_all()


@dataclass(frozen=True, eq=False)
class Exchange:
    """Rows of the table, ``(n,)``, that are to lie in slots ``(n,)`` of the device, in place of what lies there.

    Attributes:
        places: the slots, and ``held`` the rows as they lie there, uint8 ``(n, record_bytes)``; both on the device.
    """

    rows: np.ndarray
    slots: np.ndarray
    places: torch.Tensor
    held: torch.Tensor


@dataclass
class HeldTable:
    """A plain table on a device.

    Attributes:
        table: on the host, which always has all of it.
        start: of its rows in the tables' memory.
        slots: rows that there is room for.
    """

    table: Table
    start: int
    slots: int
    _slot_of: np.ndarray | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.form = FORMS[self.table.form]
        self.stride = record_bytes(self.table)
        if self.slots < self.table.count:
            self._slot_of = np.full(self.table.count, -1, np.int32)
            self._slot_of[: self.slots] = np.arange(self.slots)
            self._row_of = np.arange(self.slots)
            self._counts = np.zeros(self.table.count, np.float32)
            self._counted = 0.0
            self._missed: list[np.ndarray] = []
            self._random = np.random.default_rng(0)

    @property
    def is_whole(self) -> bool:
        return self._slot_of is None

    @property
    def size_bytes(self) -> int:
        return self.slots * self.stride

    def fill(self, memory: torch.Tensor) -> None:
        """Copy the first rows there: all of them, or until more is known."""
        for first in range(0, self.slots, _AT_ONCE):
            part = records(self.table, slice(first, min(first + _AT_ONCE, self.slots)))
            start = self.start + first * self.stride
            memory[start : start + part.size].copy_(torch.from_numpy(part.reshape(-1)))

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Where rows ``(n,)``, which are in range, lie: int64 ``(n,)``; and which of them are not there, bool."""
        if self._slot_of is None:
            return self.start + rows.astype(np.int64) * self.stride + self.form, None
        slots = self._slot_of[rows]
        missing = slots < 0
        if self.slots:
            self._count(rows, missing)
        return self.start + slots.astype(np.int64) * self.stride + self.form, missing

    def _count(self, rows: np.ndarray, missing: np.ndarray) -> None:
        with self._lock:
            np.add.at(self._counts, rows, np.float32(1))
            self._counted += len(rows)
            if missing.any():
                self._missed.append(rows[missing])

    @property
    def is_due(self) -> bool:
        """Whether enough was missed to look for better rows."""
        return self._slot_of is not None and self.slots > 0 and sum(map(len, self._missed)) >= _REFRESH_AFTER

    def better(self, device: torch.device) -> Exchange | None:
        """What was missed and is asked for more than what is there; None where nothing is. Calls go on meanwhile."""
        if self._slot_of is None or not self.slots:
            return None
        with self._lock:
            wanted = np.unique(np.concatenate([*self._missed, np.zeros(0, np.int64)]).astype(np.int64))
            self._missed.clear()
            wanted = wanted[self._slot_of[wanted] < 0]
            wanted = wanted[np.argsort(-self._counts[wanted], kind="stable")][: self.slots]
            drawn = np.unique(self._random.integers(0, self.slots, _DRAWN * len(wanted)))
            drawn = drawn[np.argsort(self._counts[self._row_of[drawn]], kind="stable")][: len(wanted)]
            wanted = wanted[: len(drawn)]
            better = self._counts[wanted] > self._counts[self._row_of[drawn]]
            rows, slots = wanted[better], drawn[better]
            if self._counted > _AGED_AFTER * self.slots:
                self._counts *= np.float32(0.5)
                self._counted /= 2
        if not len(rows):
            return None
        held = torch.from_numpy(records(self.table, rows)).to(device)
        return Exchange(rows, slots, torch.from_numpy(slots).to(device), held)

    def take_in(self, memory: torch.Tensor, exchange: Exchange) -> None:
        """Make an exchange that was the last to be chosen, while nobody reads. Where that fails, what lay in its slots
        counts as missing."""
        if self._slot_of is None:
            return
        rows, slots = exchange.rows, exchange.slots
        self._slot_of[self._row_of[slots]] = -1
        memory[self.start : self.start + self.size_bytes].view(self.slots, self.stride)[exchange.places] = exchange.held
        if memory.is_cuda:
            torch.cuda.synchronize(memory.device)
        self._slot_of[rows], self._row_of[slots] = slots, rows

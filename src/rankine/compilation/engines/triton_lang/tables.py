"""A model's tables on a device, up to a budget: whole ones first, of the others the rows that are asked for most.

The host keeps every table. Rows that a call needs and the device does not have come with the call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.cache import Gate, HeldTable, record_bytes, records
from rankine.models.tables import AnyTable, MixedTable, Table

__all__ = ["DeviceTables", "Spilled"]

_LOGGER = logging.getLogger("rankine.triton-lang")


@dataclass(frozen=True)
class Spilled:
    """Rows that have to come with a call.

    Attributes:
        places: of the values among those that were asked for.
        which: of ``rows`` each of them is.
        rows: uint8 ``(n, bytes)``, as they lie on the device; each once.
        form: as entries tell it.
    """

    places: np.ndarray
    which: np.ndarray
    rows: np.ndarray
    form: int


class DeviceTables:
    """Tables that a device looks up in.

    A table of two parts is held as two: its hot rows are kept on the device before anything else.

    Args:
        tables: by name; those of a form that the kernel does not know are left to the host.
        budget_bytes: of the device's memory; with nothing, all is left to the host.

    Attributes:
        memory: uint8, what entries count from.
    """

    def __init__(self, tables: Mapping[str, AnyTable], device: torch.device, budget_bytes: int) -> None:
        parts = {name: _parts(table) for name, table in tables.items() if budget_bytes > 0}
        self._hosts = {name: table for name, table in tables.items() if parts.get(name)}
        slots = _slots([(hot, part) for name in self._hosts for hot, part in parts[name]], budget_bytes)
        self._held: dict[str, tuple[HeldTable, ...]] = {}
        start = at = 0
        for name in self._hosts:
            held = []
            for _, part in parts[name]:
                held.append(HeldTable(part, start, slots[at]))
                start, at = start + held[-1].size_bytes, at + 1
            self._held[name] = tuple(held)
        self.memory = torch.zeros(max(start, 1), dtype=torch.uint8, device=device)
        for one in self._all:
            one.fill(self.memory)
        self._gate = Gate() if any(not one.is_whole for one in self._all) else None
        self._refreshing = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._held

    @property
    def size_bytes(self) -> int:
        """Of the device's memory that rows take."""
        return sum(one.size_bytes for one in self._all)

    @property
    def forms(self) -> tuple[str, ...]:
        """Of all rows."""
        return tuple(dict.fromkeys(one.table.form for one in self._all))

    @property
    def told(self) -> str:
        """In words, what is held."""
        rows, slots = sum(one.table.count for one in self._all), sum(one.slots for one in self._all)
        share = "all" if slots == rows else f"{slots:,} of {rows:,}"
        return f"{len(self._held)} tables on the device, {share} rows, {self.size_bytes / 2**20:.1f} MiB"

    def count(self, name: str) -> int:
        return self._hosts[name].count

    def dim(self, name: str) -> int:
        return self._hosts[name].dim

    def whole(self, name: str) -> HeldTable | None:
        """A plain table that is there in full; None where it is not."""
        held = self._held[name]
        return held[0] if len(held) == 1 and held[0].is_whole else None

    def entries(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, list[Spilled]]:
        """Where rows ``ids (n,)`` lie, which are in range: int64 ``(n,)``; and what has to come with the call."""
        table = self._hosts[name]
        if not isinstance(table, MixedTable):
            every = np.arange(len(ids))
            found, spilled = _entries(self._held[name][0], ids, every)
            return found, spilled
        is_hot, rows = table.places(ids)
        entries = np.empty(len(ids), np.int64)
        spilled = []
        for held, mask in zip(self._held[name], (is_hot, ~is_hot), strict=True):
            places = np.flatnonzero(mask)
            entries[places], more = _entries(held, rows[places], places)
            spilled += more
        return entries, spilled

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Held from the first entry that is asked for until the kernel has run; afterwards better rows are taken in,
        if it is time."""
        if self._gate is None:
            yield
            return
        with self._gate.inside():
            yield
        if any(one.is_due for one in self._all):
            try:
                self.refresh()
            except (RuntimeError, MemoryError, OSError) as error:  # the call itself has what it asked for
                _LOGGER.warning("no better rows of tables were taken in: %s", error)

    def refresh(self) -> int:
        """Take in rows that were missed and are asked for more than others; how many. Calls wait only for the copy
        within the device.

        Raises:
            RuntimeError: the device failed.
        """
        if self._gate is None:
            return 0
        with self._refreshing:
            found = [(one, one.better(self.memory.device)) for one in self._all]
            chosen = [(one, exchange) for one, exchange in found if exchange is not None]
            if chosen:
                with self._gate.closed():
                    for one, exchange in chosen:
                        one.take_in(self.memory, exchange)
        return sum(len(exchange.rows) for _, exchange in chosen)

    @property
    def _all(self) -> list[HeldTable]:
        return [one for held in self._held.values() for one in held]


def _parts(table: AnyTable) -> list[tuple[bool, Table]]:
    """Plain tables, and whether they are known to be read often; none where the kernel does not know the form."""
    if isinstance(table, Table):
        return [(False, table)]
    if isinstance(table, MixedTable):
        return [(True, table.hot), (False, table.cold)]
    return []


def _slots(parts: list[tuple[bool, Table]], budget_bytes: int) -> list[int]:
    """Rows of each that are held: hot ones first, then the smallest table, as every feature reads about as many rows;
    what is left is shared by the others in proportion to their size."""
    sizes = [table.count * record_bytes(table) for _, table in parts]
    slots = [0] * len(parts)
    left, others = budget_bytes, []
    for at in sorted(range(len(parts)), key=lambda at: (not parts[at][0], sizes[at])):
        if sizes[at] <= left:
            slots[at] = parts[at][1].count
            left -= sizes[at]
        else:
            others.append(at)
    total = sum(sizes[at] for at in others)
    for at in others:
        slots[at] = int(left * (sizes[at] / total)) // record_bytes(parts[at][1])
    return slots


def _entries(held: HeldTable, rows: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, list[Spilled]]:
    """Entries of a part's rows; ``places`` of them among all that were asked for."""
    found, missing = held.entries(rows)
    if missing is None or not missing.any():
        return found, []
    unique, which = np.unique(rows[missing], return_inverse=True)
    return found, [Spilled(places[missing], which, records(held.table, unique), held.form)]

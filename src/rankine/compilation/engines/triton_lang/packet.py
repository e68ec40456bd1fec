"""What a call brings to the device's lookups: entries, lists and rows that are not there, in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rankine.compilation.engines.triton_lang.tables import Spilled

__all__ = ["Bags", "packet_bytes", "write_packet"]

_CALL = 4
_ABSENT = -1


@dataclass
class Bags:
    """What one feature brings, or several whose rows read the same bags.

    Attributes:
        entries: int64 ``(features, n)``; one a bag where there are no ``offsets (bags + 1,)``.
        index: int32 ``(rows,)``: the bag of each row; None where each row has its own.
        weights: float32, one an entry.
    """

    entries: np.ndarray
    offsets: np.ndarray | None = None
    index: np.ndarray | None = None
    weights: np.ndarray | None = None
    spilled: list[Spilled] = field(default_factory=list)


def packet_bytes(bags: Sequence[Bags]) -> int:
    """Bytes that it takes."""
    size = 8 * (1 + _CALL * sum(len(one.entries) for one in bags))
    seen: set[int] = set()
    for one in bags:
        size += one.entries.nbytes + sum(8 + rows.rows.nbytes for rows in one.spilled)
        for array in (one.offsets, one.index, one.weights):
            if array is not None and id(array) not in seen:
                seen.add(id(array))
                size += 8 + array.nbytes
    return size


def write_packet(bags: Sequence[Bags], rows: int, packet: np.ndarray, start: int) -> int:
    """Write it, as :func:`rankine.compilation.engines.triton_lang.kernels.lookup.lookup` takes it.

    Arrays that several features share are written once.

    Args:
        bags: features are numbered through them.
        packet: int64, with room for :func:`packet_bytes`.
        start: where the packet will lie on the device, in bytes from the tables' memory.

    Returns:
        Bytes that were written.
    """
    raw, features = packet.view(np.uint8), sum(len(one.entries) for one in bags)
    calls = packet[1 : 1 + _CALL * features].reshape(features, _CALL)
    at, number = 8 * (1 + _CALL * features), 0
    known: dict[int, int] = {}

    def put(array: np.ndarray | None, kind: type[np.generic]) -> int:
        nonlocal at
        if array is None:
            return _ABSENT
        if id(array) not in known:
            held = np.ascontiguousarray(array, kind)
            known[id(array)] = at
            raw[at : at + held.nbytes] = held.reshape(-1).view(np.uint8)
            at += -(-held.nbytes // 8) * 8
        return known[id(array)] // 4

    packet[0] = rows
    for one in bags:
        for spilled in one.spilled:
            size = spilled.rows.nbytes
            raw[at : at + size] = spilled.rows.reshape(-1)
            stride = spilled.rows.shape[1]
            one.entries[0, spilled.places] = start + at + spilled.which * stride + spilled.form
            at += -(-size // 8) * 8
        count, each = one.entries.shape
        own = calls[number : number + count]
        own[:, 0] = at // 8 + each * np.arange(count)
        packet[at // 8 : at // 8 + one.entries.size] = one.entries.reshape(-1)
        at += one.entries.nbytes
        own[:, 1:] = put(one.offsets, np.int32), put(one.index, np.int32), put(one.weights, np.float32)
        number += count
    return at

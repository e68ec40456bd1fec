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
    """What one feature brings.

    Attributes:
        entries: int64; one a bag where there are no ``offsets (bags + 1,)``.
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
    size = 8 * (1 + _CALL * len(bags))
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
        packet: int64, with room for :func:`packet_bytes`.
        start: where the packet will lie on the device, in bytes from the tables' memory.

    Returns:
        Bytes that were written.
    """
    raw = packet.view(np.uint8)
    at = 8 * (1 + _CALL * len(bags))
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
    for number, one in enumerate(bags):
        for spilled in one.spilled:
            size = spilled.rows.nbytes
            raw[at : at + size] = spilled.rows.reshape(-1)
            stride = spilled.rows.shape[1]
            one.entries[spilled.places] = start + at + spilled.which * stride + spilled.form
            at += -(-size // 8) * 8
        fields = packet[1 + number * _CALL : 1 + (number + 1) * _CALL]
        fields[0] = at // 8
        packet[at // 8 : at // 8 + one.entries.size] = one.entries.reshape(-1)
        at += one.entries.nbytes
        fields[1] = put(one.offsets, np.int32)
        fields[2] = put(one.index, np.int32)
        fields[3] = put(one.weights, np.float32)
    return at

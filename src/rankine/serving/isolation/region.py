"""Memory that two processes share, and arrays that lie in it. Linux only: it is a file that has no name."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import msgspec
import numpy as np

__all__ = ["Place", "Region", "aligned", "array_at", "place_arrays"]

_ALIGN_BYTES = 64
"""A cache line, and the widest vector that an engine loads."""
_FIRST_BYTES = 1 << 20


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where an array lies: its type as NumPy writes it, its shape, and its first byte."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class Region:
    """A growing piece of shared memory.

    Whoever owns it grows it (:meth:`ensure`) and tells the other side how large it is, which then looks again
    (:meth:`follow`). Arrays keep the memory that they were made over, so nothing that is in use is ever taken away.

    Args:
        fd: of a region that another process made; None makes one. It is closed with the region.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("rankine", os.MFD_CLOEXEC)
            os.ftruncate(fd, _FIRST_BYTES)
        self.fd = fd
        self.memory = mmap.mmap(fd, os.fstat(fd).st_size)

    @property
    def size_bytes(self) -> int:
        return len(self.memory)

    def ensure(self, size_bytes: int) -> None:
        """Grow to ``size_bytes`` at least; what was written before is lost to nobody, but may not be found again."""
        if size_bytes > self.size_bytes:
            os.ftruncate(self.fd, max(size_bytes, 2 * self.size_bytes))
            self.follow()

    def follow(self) -> None:
        """Map all of it, after it has grown."""
        self.memory = mmap.mmap(self.fd, os.fstat(self.fd).st_size)

    def close(self) -> None:
        """Let go of it; arrays that lie in it stay readable."""
        os.close(self.fd)


def aligned(offset: int) -> int:
    """The next offset at which an array may begin."""
    return -(-offset // _ALIGN_BYTES) * _ALIGN_BYTES


def place_arrays(arrays: Sequence[np.ndarray], start: int) -> tuple[list[Place], int]:
    """Where arrays lie, one after the other from ``start`` on, and the first byte after them."""
    places: list[Place] = []
    for array in arrays:
        start = aligned(start)
        places.append(Place(array.dtype.str, array.shape, start))
        start += array.nbytes
    return places, start


def array_at(memory: mmap.mmap, place: Place) -> np.ndarray:
    """The array that lies there; contiguous, and it shares the memory."""
    return np.ndarray(place.shape, place.dtype, memory, place.offset)

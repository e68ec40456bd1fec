"""The runner of every engine that leaves the lookup to the host: look up into a buffer, run the dense graph on it.

A call takes a *lane* (buffers, and the engine's binding to them) that no other call uses, so that threads never wait
for each other here, and nothing is allocated once a lane has grown to the largest batch it has seen. There are as many
lanes as there were calls at the same moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import numpy as np

from rankine.compilation.lookup import DType, HostLookup
from rankine.errors import EngineError
from rankine.models.columns import Batch, Columns

__all__ = ["HostRunner", "InputBuffers", "Lane", "LaneRunner", "check_out", "parts_of", "small_buffers"]

_FIRST_ROWS = 64
_MOST_BUFFER_BYTES = 256 << 20
"""A larger batch runs in parts: long sequences over many candidates would else take gigabytes."""


class Lane(Protocol):
    """What one call needs to run a graph."""

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        """The graph's input arrays for ``rows`` rows, ``(rows, width)`` each, to be filled."""

    def execute(self, rows: int, out: np.ndarray) -> None:
        """Run the graph on the filled inputs and write its logits ``(rows, tasks)`` to ``out``."""


AnyLane = TypeVar("AnyLane")


class LaneRunner(ABC, Generic[AnyLane]):
    """A :class:`~rankine.compilation.engine.Runner` over lanes, each of which one call has for itself.

    Args:
        width: float32 values that a row takes in a lane's buffers.
        tasks: columns of the logits.
        open_lane: makes a lane when all others are taken.
    """

    def __init__(self, width: int, tasks: int, open_lane: Callable[[], AnyLane]) -> None:
        self._width = width
        self._tasks = tasks
        self._open_lane: Callable[[], AnyLane] | None = open_lane
        # Last in, first out: the lane that is given next is the one whose buffers are still in the cache.
        self._free: deque[AnyLane] = deque()

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """See :meth:`rankine.compilation.engine.Runner.run`; a batch without rows runs nothing."""
        self._check_open()
        check_out(out, batch, self._tasks)
        if batch.rows == 0:
            return
        with self._lane() as lane:
            for rows, part in parts_of(batch, self._width):
                self._run_on(lane, part, out[rows])

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        """Free the lanes, and what they hold of the engine; calls under way keep theirs until they end."""
        self._open_lane = None
        self._free.clear()

    @abstractmethod
    def _run_on(self, lane: AnyLane, batch: Batch, out: np.ndarray) -> None:
        """Write the logits of a batch that fits a lane's buffers."""

    @contextmanager
    def _lane(self) -> Iterator[AnyLane]:
        """A lane, until it is given back.

        Raises:
            EngineError: the runner is closed.
        """
        open_lane = self._check_open()
        try:
            lane = self._free.pop()
        except IndexError:
            lane = open_lane()
        try:
            yield lane
        finally:
            if self._open_lane is not None:
                self._free.append(lane)

    def _check_open(self) -> Callable[[], AnyLane]:
        if self._open_lane is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        return self._open_lane


class HostRunner(LaneRunner[Lane]):
    """A runner for which the host looks up.

    Args:
        lookup: writes the features; into one array where the lane has one packed input, else into one a feature.
        tasks: columns of the logits.
        open_lane: makes a lane when all others are taken.
    """

    def __init__(self, lookup: HostLookup, tasks: int, open_lane: Callable[[], Lane]) -> None:
        super().__init__(lookup.width, tasks, open_lane)
        self._lookup = lookup

    def _run_on(self, lane: Lane, batch: Batch, out: np.ndarray) -> None:
        inputs = lane.inputs(batch.rows)
        if len(inputs) == 1:
            self._lookup.run(batch, inputs[0])
        else:
            self._lookup.run_each(batch, inputs)
        lane.execute(batch.rows, out)


class InputBuffers:
    """Growing arrays, one an input: the first ``rows`` rows of each are a batch's, the others stay finite.

    Args:
        arrays: width and type of each.
    """

    def __init__(self, arrays: Sequence[tuple[int, DType]]) -> None:
        self._buffers: tuple[np.ndarray, ...] = tuple(np.zeros((_FIRST_ROWS, width), kind) for width, kind in arrays)
        self._views = self._buffers

    def views(self, rows: int) -> tuple[np.ndarray, ...]:
        """The arrays ``(rows, width)``; the same objects while ``rows`` stays the same."""
        if rows == len(self._views[0]):
            return self._views
        if rows > len(self._buffers[0]):
            capacity = max(rows, 2 * len(self._buffers[0]))
            self._buffers = tuple(np.zeros((capacity, buffer.shape[1]), buffer.dtype) for buffer in self._buffers)
        self._views = tuple(buffer[:rows] for buffer in self._buffers)
        return self._views


def parts_of(batch: Batch, width: int) -> Iterator[tuple[slice, Batch]]:
    """A batch in parts whose values, float32 ``(rows, width)``, stay within bounded memory; mostly it is one."""
    most = max(1, _MOST_BUFFER_BYTES // (4 * max(1, width)))
    for start in range(0, batch.rows, most):
        rows = slice(start, min(start + most, batch.rows))
        yield rows, batch if most >= batch.rows else batch.select(rows)


@contextmanager
def small_buffers(most_bytes: int) -> Iterator[None]:
    """Let batches run in parts of so few bytes: what a batch of gigabytes does, checked on a small one."""
    global _MOST_BUFFER_BYTES  # noqa: PLW0603
    before, _MOST_BUFFER_BYTES = _MOST_BUFFER_BYTES, most_bytes
    try:
        yield
    finally:
        _MOST_BUFFER_BYTES = before


def check_out(out: np.ndarray, batch: Batch, tasks: int) -> None:
    """Hold ``out`` and the batch's indices to the contract of a runner.

    Raises:
        EngineError: a wrong shape, type or order.
    """
    rows = len(batch.request_index)
    if out.shape != (rows, tasks) or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        got = f"{out.dtype} {out.shape}" + ("" if out.flags.c_contiguous else ", not contiguous")
        allowed = f"writable, contiguous float32 ({rows}, {tasks})"
        raise EngineError("the array for the logits does not fit the batch", where="out", got=got, allowed=allowed)
    if len(batch.item_index) != rows:
        got, allowed = str(len(batch.item_index)), f"{rows}, as in request_index"
        raise EngineError("has the wrong number of rows", where="item_index", got=got, allowed=allowed)

"""A compiled program, open: its library and constants are mapped, and calls go straight into it.

Neither TVM nor its runtime is imported, and TVM's pool of threads does not exist: a large call is shared by threads of
the runner's own, which sleep in between.
"""

from __future__ import annotations

import _ctypes
import ctypes
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, HostLookup
from rankine.compilation.tensorir.instruction_sets import chosen, runs_here
from rankine.config import Frozen
from rankine.errors import ArtifactError, EngineError

__all__ = ["CONSTANTS_FILE", "ENTRY", "LAYOUT_FILE", "LIBRARY_FILE", "Layout", "Program", "ProgramLane", "open_runner"]

LIBRARY_FILE, CONSTANTS_FILE, LAYOUT_FILE = "program.so", "constants.bin", "layout.json"
ENTRY = "rankine_run"
"""The function that a library exports: ``(input, ..., constants, arena, out, rows)``."""
_ALIGNMENT = 64
_PADDING = 32
"""Rows behind the last one that kernels may read."""
_FEWEST_ROWS = 64
"""Of a thread's share: less is not worth waking it."""
_ROW_UNIT = 16


class Layout(Frozen):
    """What has to be known of a library to call it.

    Attributes:
        instruction_set: that it was compiled for.
        inputs: names, in the order of its arguments.
        arena_bytes: of memory that one call works in.
        tasks: columns of the logits.
    """

    schema_version: int = 1
    instruction_set: str
    inputs: tuple[str, ...]
    arena_bytes: int
    tasks: int


class Program:
    """A library and its constants; both are unmapped when nobody refers to them.

    Raises:
        ArtifactError: the files are damaged or missing.
        EngineError: this processor does not run them.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LIBRARY_FILE
        try:
            self.layout = Layout.model_validate_json((folder / LAYOUT_FILE).read_text(encoding="utf-8"))
            _check_processor(self.layout)
            self._constants = np.memmap(folder / CONSTANTS_FILE, np.uint8, "r")
            self._library = ctypes.CDLL(str(path))
            self.run = getattr(self._library, ENTRY)
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            hint = "The files are damaged, or were built by another version: run `rankine compile` again."
            raise ArtifactError("is no program of TVM", where=str(folder), got=str(error), hint=hint) from None
        closing = weakref.finalize(self, _ctypes.dlclose, self._library._handle)
        closing.atexit = False  # where Python ends, other threads may still be in it
        self.run.restype = None
        self.run.argtypes = [*[ctypes.c_void_p] * (len(self.layout.inputs) + 3), ctypes.c_int64]
        self.constants = self._constants.ctypes.data


def open_runner(folder: Path, lookup: HostLookup, *, threads: int) -> HostRunner:
    """A runner of what was built into ``folder``."""
    program = Program(folder)
    arrays = lookup.arrays_of(program.layout.inputs)
    pool = ThreadPoolExecutor(threads - 1, "rankine-tvm") if threads > 1 else None
    return HostRunner(lookup, program.layout.tasks, lambda: ProgramLane(program, arrays, pool, threads))


class ProgramLane:
    """Buffers of one call; see :class:`rankine.compilation.host_runner.Lane`."""

    def __init__(
        self, program: Program, arrays: Sequence[tuple[int, DType]], pool: ThreadPoolExecutor | None, threads: int
    ) -> None:
        self._program, self._pool, self._threads = program, pool, threads
        self._buffers = InputBuffers(arrays)
        self._arenas = [_aligned(program.layout.arena_bytes)]
        self._addresses: list[tuple[int, int]] = []
        self._bound: tuple[np.ndarray, ...] = ()

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        views = self._buffers.views(rows + _PADDING)
        if views is not self._bound:
            self._addresses = [(view.ctypes.data, view.strides[0]) for view in views]
            self._bound = views
        return tuple(view[:rows] for view in views)

    def execute(self, rows: int, out: np.ndarray) -> None:
        shares = min(self._threads, rows // _FEWEST_ROWS)
        target, stride = out.ctypes.data, out.strides[0]
        if shares < 2 or self._pool is None:
            self._run(0, rows, target, 0)
            return
        while len(self._arenas) < shares:
            self._arenas.append(_aligned(self._program.layout.arena_bytes))
        each = -(-rows // shares // _ROW_UNIT) * _ROW_UNIT
        starts = range(0, rows, each)
        others = [
            self._pool.submit(self._run, start, min(each, rows - start), target + start * stride, number)
            for number, start in enumerate(starts)
            if number
        ]
        self._run(0, each, target, 0)
        for other in others:
            other.result()

    def _run(self, start: int, rows: int, target: int, arena: int) -> None:
        given = [address + start * stride for address, stride in self._addresses]
        self._program.run(*given, self._program.constants, self._arenas[arena].ctypes.data, target, rows)


def _aligned(size: int) -> np.ndarray:
    whole = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -whole.ctypes.data % _ALIGNMENT
    return whole[start : start + size]


def _check_processor(layout: Layout) -> None:
    machine = chosen(layout.instruction_set)
    if not runs_here(machine):
        raise EngineError(
            "this processor does not run what was compiled",
            got=layout.instruction_set,
            hint="Build for this machine: run `rankine compile` here.",
        )

"""A program, open on a device: one arena and one stream a worker, inputs copied from pinned memory, and on a GPU one
CUDA graph for each bucket of rows, so that a call is one copy there, one launch, and one copy back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.device import Device, device_named
from rankine.compilation.engines.triton_lang.kernels.linear import Form
from rankine.compilation.engines.triton_lang.steps import DeviceProgram, Launch, launches
from rankine.compilation.fused.program import Element, read_program
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import HostLookup
from rankine.errors import ArtifactError, EngineError

__all__ = ["PROGRAM_FILE", "DeviceLane", "bucket_of", "open_runner"]

PROGRAM_FILE = "program.bin"
_FEWEST_ROWS = 16
_SPLIT = 4
"""Buckets from one power of two to the next: at most a quarter of a call's rows is padding."""


def bucket_of(rows: int) -> int:
    """The row count that a graph is captured for: a quarter, half, three quarters or all of a power of two."""
    if rows <= _FEWEST_ROWS:
        return _FEWEST_ROWS
    step = (1 << ((rows - 1).bit_length() - 1)) // _SPLIT
    return -(-rows // step) * step


def open_runner(folder: Path, lookup: HostLookup, *, device: str, form: Form = "fp32") -> HostRunner:
    """A runner of the program in ``folder``.

    Args:
        form: of products in floats; ``bf16`` is another numeric form, whose scores need a certificate of their own.

    Raises:
        ArtifactError: the file is damaged or missing.
    """
    path, here = folder / PROGRAM_FILE, device_named(device)
    try:
        program = read_program(path.read_bytes())
    except (OSError, EngineError) as error:
        hint = "The file is damaged, or was built by another version: run `rankine compile` again."
        raise ArtifactError("is no program of the engine", where=str(path), got=str(error), hint=hint) from None
    names = lookup.names if len(program.inputs) == len(lookup.names) else ("features",)
    given = [width for width, _ in lookup.arrays_of(names)]
    if given != [slot.width for slot in program.inputs]:
        got, allowed = str([slot.width for slot in program.inputs]), str(given)
        raise EngineError("the program does not fit the model", where=str(path), got=got, allowed=allowed)
    held = DeviceProgram(program, here.torch_device, form)
    return HostRunner(lookup, program.tasks, lambda: DeviceLane(held, here))


class DeviceLane:
    """Memory and stream of one call; see :class:`rankine.compilation.host_runner.Lane`."""

    def __init__(self, held: DeviceProgram, device: Device) -> None:
        self._held, self._device = held, device
        self._stream = torch.cuda.Stream() if device.is_gpu else None
        self._capacity = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        if rows > self._capacity:
            self._grow(bucket_of(rows))
        return tuple(given[:rows] for given in self._arrays)

    def execute(self, rows: int, out: np.ndarray) -> None:
        with self._device.turn():
            if self._stream is None:
                self._run(rows)
                out[:] = self._logits[:rows].numpy()
                return
            with torch.cuda.stream(self._stream):
                bucket = bucket_of(rows)
                for staged, given in zip(self._staged, self._given, strict=True):
                    given[:rows].copy_(staged[:rows], non_blocking=True)
                self._graph(bucket).replay()
                self._back[:rows].copy_(self._result[:rows], non_blocking=True)
            self._stream.synchronize()
        out[:] = self._back[:rows].numpy()

    def replay(self, rows: int) -> None:
        """On a GPU: run the kernels alone on what the inputs hold, without waiting for them."""
        self._graph(bucket_of(rows)).replay()

    def _grow(self, rows: int) -> None:
        """Memory for so many rows; graphs of the former are void."""
        program, where, is_gpu = self._held.program, self._device.torch_device, self._device.is_gpu
        self._graphs.clear()
        self._capacity = rows
        self._arena = torch.zeros(program.arena_bytes_per_row * rows + 64, dtype=torch.uint8, device=where)
        self._launches: list[Launch]
        self._launches, self._inputs, self._logits = launches(self._held, self._arena, rows)
        types = [torch.uint8 if slot.element is Element.U8 else torch.float32 for slot in program.inputs]
        self._staged = [
            torch.zeros((rows, slot.width), dtype=kind, pin_memory=is_gpu)
            for slot, kind in zip(program.inputs, types, strict=True)
        ]
        self._arrays = [staged.numpy() for staged in self._staged]
        self._given = [staged.to(where) for staged in self._staged] if is_gpu else self._staged
        self._result = torch.zeros((rows, program.tasks), device=where)
        self._back = torch.zeros((rows, program.tasks), pin_memory=is_gpu)
        if is_gpu:
            torch.cuda.current_stream().synchronize()  # what was filled here is used on the lane's own stream

    def _run(self, rows: int) -> None:
        for place, given in zip(self._inputs, self._given, strict=True):
            place[:rows].copy_(given[:rows])
        for launch in self._launches:
            launch(rows)

    def _graph(self, rows: int) -> torch.cuda.CUDAGraph:
        """Captured when a bucket is first used, after a run that compiles the kernels."""
        if rows not in self._graphs:
            self._run(rows)
            torch.cuda.current_stream().synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._run(rows)
                self._result[:rows].copy_(self._logits[:rows])
            self._graphs[rows] = graph
        return self._graphs[rows]

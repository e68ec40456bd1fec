"""Memory and stream of one call at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.device import Device
from rankine.compilation.engines.triton_lang.feed import Feed, Given
from rankine.compilation.engines.triton_lang.inputs import plain_plan
from rankine.compilation.engines.triton_lang.kept import kept_shared
from rankine.compilation.engines.triton_lang.kernels.lookup import LookupField, fields_of, lookup
from rankine.compilation.engines.triton_lang.kernels.spread import spread
from rankine.compilation.engines.triton_lang.packet import packet_bytes, write_packet
from rankine.compilation.engines.triton_lang.placing import DeviceProgram, Launch, Places, Requests
from rankine.compilation.engines.triton_lang.steps import launches
from rankine.compilation.engines.triton_lang.tables import DeviceTables
from rankine.compilation.engines.triton_lang.top import Best, BestOf
from rankine.compilation.fused.program import Element, Operand
from rankine.models.columns import Batch

__all__ = ["DeviceLane", "bucket_of"]

_FEWEST_ROWS = 16
_SPLIT = 4
"""Buckets from one power of two to the next: at most a quarter of a call's rows is padding."""
_TYPES = {Element.F32: torch.float32, Element.U8: torch.uint8}


def bucket_of(rows: int) -> int:
    """The row count that a graph is captured for: a quarter, half, three quarters or all of a power of two."""
    if rows <= _FEWEST_ROWS:
        return _FEWEST_ROWS
    step = (1 << ((rows - 1).bit_length() - 1)) // _SPLIT
    return -(-rows // step) * step


class DeviceLane:
    """What one call needs: an arena, buffers that are copied from and to the device, and a stream.

    Args:
        feed: of the inputs; None where somebody fills all of them: :meth:`inputs`, then :meth:`execute`.
    """

    def __init__(self, held: DeviceProgram, device: Device, feed: Feed | None = None) -> None:
        self._held, self._device, self._feed = held, device, feed
        self._plan = plain_plan(held.program) if feed is None else feed.plan
        self._tables = DeviceTables({}, device.torch_device, 0) if feed is None else feed.tables
        self._kept = kept_shared(held.fusion, self._plan.shared)
        self._stream = torch.cuda.Stream() if device.is_gpu else None
        self._capacity = self._requests_capacity = self._packet_bytes = 0
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        """Arrays for ``rows`` rows of what the host fills of each input."""
        if rows > self._capacity:
            self._grow(bucket_of(rows))
        return tuple(given[:rows] for given in self._arrays)

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """Write a batch's logits."""
        with self._tables.inside():
            self._take(batch)
            self.execute(batch.rows, out)

    def best(self, batch: Batch, count: int) -> Best:
        """The best candidates of each request of a batch."""
        of = BestOf(batch.request_index, count)
        with self._tables.inside(), self._device.turn():
            self._take(batch)
            self._copy(batch.rows)
            before = launches(self._places, but_last=BestOf.does_last(self._held))
            for launch in [*self._filling(), *before]:
                launch(batch.rows)
            return of.found(self._places)

    def execute(self, rows: int, out: np.ndarray) -> None:
        """Run the program on what the inputs hold, and write its logits ``(rows, tasks)``."""
        with self._device.turn():
            if self._stream is None:
                self._copy(rows)
                self._run(rows)
                out[:] = self._logits[:rows].numpy()
                return
            with torch.cuda.stream(self._stream):
                self._copy(rows)
                self._graph(bucket_of(rows)).replay()
                self._back[:rows].copy_(self._result[:rows], non_blocking=True)
            self._stream.synchronize()
        out[:] = self._back[:rows].numpy()

    def replay(self, rows: int) -> None:
        """On a GPU: run the kernels alone on what the inputs hold, without waiting for them."""
        self._graph(bucket_of(rows)).replay()

    def _take(self, batch: Batch) -> None:
        """A batch into buffers that are copied from."""
        if self._feed is None:
            raise RuntimeError("a lane whose inputs somebody fills")
        given = self._feed.fill(batch, self.inputs(batch.rows))
        requests = 0 if given.requests is None else len(given.requests)
        needed = packet_bytes(given.bags) if given.bags else 0
        if requests > self._requests_capacity or needed > self._packet_bytes:
            self._requests_capacity = max(self._requests_capacity, bucket_of(requests)) if requests else 0
            self._packet_bytes = max(self._packet_bytes, 2 * needed)
            self._grow(self._capacity)
            given = self._feed.fill(batch, self.inputs(batch.rows))
        self._stage(given, batch.rows)

    def _stage(self, given: Given, rows: int) -> None:
        self._used_requests = self._used_packet = 0
        if given.requests is not None and given.request_index is not None:
            self._used_requests = len(given.requests)
            self._staged_requests[: len(given.requests)].numpy()[:] = given.requests
            self._staged_index[:rows].numpy()[:] = given.request_index
        if given.bags:
            start = self._packet.data_ptr() - self._tables.memory.data_ptr()
            self._used_packet = write_packet(given.bags, rows, self._staged_packet.numpy(), start)

    def _copy(self, rows: int) -> None:
        """To the device."""
        if self._stream is None:
            return
        for staged, given in zip(self._staged, self._given, strict=True):
            given[:rows].copy_(staged[:rows], non_blocking=True)
        if self._plan.shared:
            used = self._used_requests
            self._requests[:used].copy_(self._staged_requests[:used], non_blocking=True)
            self._index[:rows].copy_(self._staged_index[:rows], non_blocking=True)
        if self._plan.looked:
            used = self._used_packet // 8
            self._packet[:used].copy_(self._staged_packet[:used], non_blocking=True)

    def _grow(self, rows: int) -> None:
        """Memory for so many rows; graphs of the former are void."""
        program, where = self._held.program, self._device.torch_device
        self._graphs.clear()
        self._capacity = rows
        self._arena = torch.zeros(program.arena_bytes_per_row * rows + 64, dtype=torch.uint8, device=where)
        self._staged, self._given = [], []
        for slot, given in zip(self._plan.slots, self._plan.host, strict=True):
            staged, held = self._both((rows, given.width), _TYPES[program.inputs[slot].element])
            self._staged.append(staged)
            self._given.append(held)
        self._arrays = [staged.numpy() for staged in self._staged]
        requests = max(self._requests_capacity, 1), self._plan.request_width
        self._staged_requests, self._requests = self._both(requests, torch.float32)
        self._staged_index, self._index = self._both((rows,), torch.int32)
        self._staged_packet, self._packet = self._both((self._packet_bytes // 8 + 1,), torch.int64)
        starts = {self._operand(one.slot): one.start for one in self._kept}
        added = frozenset(self._operand(one.slot) for one in self._kept if one.added)
        self._places = Places(self._held, self._arena, rows, Requests(self._requests, self._index, starts, added))
        self._inputs = [self._places.matrix(self._operand(at), slot.width) for at, slot in enumerate(program.inputs)]
        self._logits = self._places.matrix(program.output, program.tasks)
        self._fields = fields_of(self._lookup_fields(), where) if self._plan.looked else None
        self._launches = [*self._filling(), *launches(self._places)]
        self._result = torch.zeros((rows, program.tasks), device=where)
        self._back = torch.zeros((rows, program.tasks), pin_memory=self._device.is_gpu)
        if self._device.is_gpu:
            torch.cuda.current_stream().synchronize()  # what was filled here is used on the lane's own stream

    def _both(self, shape: tuple[int, ...], kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Memory that the host fills, and its copy on the device; the same where there is no GPU."""
        staged = torch.zeros(shape, dtype=kind, pin_memory=self._device.is_gpu)
        return staged, staged.to(self._device.torch_device) if self._device.is_gpu else staged

    def _operand(self, slot: int) -> Operand:
        given = self._held.program.inputs[slot]
        return Operand(given.buffer, given.offset)

    def _filling(self) -> list[Launch]:
        """What takes inputs to their places in the arena."""
        found: list[Launch] = []
        numbers = {slot: number for number, slot in enumerate(self._plan.slots)}
        for one in self._plan.copied:
            place = self._inputs[one.slot][:, one.column : one.column + one.width]
            given = self._given[numbers[one.slot]][:, one.staged : one.staged + one.width]
            found.append(partial(_copy_rows, place, given))
        if self._fields is not None:
            found.append(self._look_up)
        for shared in self._plan.shared:
            if shared not in self._kept:
                place = self._inputs[shared.slot][:, shared.column : shared.column + shared.width]
                values = self._requests[:, shared.start : shared.start + shared.width]
                found.append(partial(_spread_rows, values, self._index, place, shared.added))
        return found

    def _look_up(self, rows: int) -> None:
        widest = max(one.source.table.dim for one in self._plan.looked if one.source.table is not None)
        floats = self._arena[: len(self._arena) // 4 * 4].view(torch.float32)
        if self._fields is not None:
            memory, forms = self._tables.memory, self._tables.forms
            lookup(memory, self._packet, self._fields, floats, rows, widest=widest, forms=forms)

    def _lookup_fields(self) -> list[LookupField]:
        found: list[LookupField] = []
        numbers = {} if self._feed is None else self._feed.numbers
        for at, one in enumerate(self._plan.looked):
            bags = numbers[at]
            first, stride = self._places.in_arena(self._operand(one.slot))
            first, dim, length = first + one.column, self._tables.dim(one.table), one.source.length
            if length is None:
                found.append(LookupField(bags, first, stride, dim, one.source.pooling or "sum"))
                continue
            found += [
                LookupField(
                    bags, first + step * dim, stride, dim, position=step, count=None if step else first + length * dim
                )
                for step in range(length)
            ]
        return found

    def _run(self, rows: int) -> None:
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


def _copy_rows(place: torch.Tensor, given: torch.Tensor, rows: int) -> None:
    place[:rows].copy_(given[:rows])


def _spread_rows(values: torch.Tensor, index: torch.Tensor, place: torch.Tensor, added: bool, rows: int) -> None:
    spread(values, index, place[:rows], added=added)

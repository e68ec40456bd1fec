"""A program, open on a device: one arena and one stream a worker, inputs copied from pinned memory, and on a GPU one
CUDA graph for each bucket of rows, so that a call is one copy there, one launch, and one copy back.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import numpy as np

from rankine import _native
from rankine.compilation.engines.triton_lang.available import GPU
from rankine.compilation.engines.triton_lang.device import Device, device_named
from rankine.compilation.engines.triton_lang.feed import Feed
from rankine.compilation.engines.triton_lang.inputs import plan_inputs
from rankine.compilation.engines.triton_lang.kernels.linear import Form
from rankine.compilation.engines.triton_lang.lane import DeviceLane
from rankine.compilation.engines.triton_lang.placing import DeviceProgram
from rankine.compilation.engines.triton_lang.tables import DeviceTables
from rankine.compilation.engines.triton_lang.top import Best
from rankine.compilation.fused.program import Program, read_program
from rankine.compilation.host_runner import LaneRunner, check_out
from rankine.compilation.lookup import HostLookup
from rankine.errors import ArtifactError, EngineError
from rankine.models.columns import Batch
from rankine.models.schema import DenseFeature
from rankine.models.transforms import table_of
from rankine.models.variant import Model

__all__ = ["PROGRAM_FILE", "DeviceRunner", "default_budget", "open_runner"]

PROGRAM_FILE = "program.bin"
_LOGGER = logging.getLogger("rankine.triton-lang")
_SHARE = 2
"""Of a GPU's free memory, what tables take if nothing is said: half."""
_INTERPRETED_BYTES = 1 << 30


class DeviceRunner(LaneRunner[DeviceLane]):
    """A :class:`~rankine.compilation.engine.Runner` on a device.

    Attributes:
        feed: of its inputs. ``program``: what it runs.
    """

    def __init__(self, feed: Feed, program: DeviceProgram, device: Device) -> None:
        width = sum(slot.width for slot in program.program.inputs)
        super().__init__(width, program.program.tasks, lambda: DeviceLane(program, device, feed))
        self.feed, self.program = feed, program

    def best(self, batch: Batch, count: int) -> Best:
        """The best candidates of every request, found on the device: only they come back.

        Tests alone call it, no stage does: serving ranks by expressions over several tasks. The rows of a request lie
        together.

        Args:
            count: of candidates that are wanted of each request.

        Raises:
            BadRequest: as :meth:`run`.
            EngineError: the model has several tasks; a request has more candidates than a kernel takes; the runner is
                closed.
        """
        if self._tasks != 1:
            raise EngineError("ranks by one task", got=f"{self._tasks} tasks", hint="Run it, and rank by its logits.")
        check_out(np.empty((len(batch.request_index), 1), np.float32), batch, 1)
        if batch.rows == 0:
            return Best(np.zeros(0, np.int32), np.zeros((0, count), np.float32), np.zeros((0, count), np.int32))
        with self._lane() as lane:
            return lane.best(batch, count)

    def _run_on(self, lane: DeviceLane, batch: Batch, out: np.ndarray) -> None:
        lane.run(batch, out)


def default_budget(device: Device) -> int:
    """Bytes for tables where nothing is said: half of what a GPU has free; in the interpreter 1 GiB."""
    if device.name != GPU:
        return _INTERPRETED_BYTES
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free) // _SHARE


def open_runner(
    model: Model, folder: Path, *, device: str, form: Form = "fp32", table_bytes: int | None = None
) -> DeviceRunner:
    """A runner of the program in ``folder``.

    Args:
        form: of products in floats; ``bf16`` and ``fp8`` are other numeric forms, whose scores need a certificate of
            their own.
        table_bytes: of the device's memory for tables; None for :func:`default_budget`.

    Raises:
        ArtifactError: the file is damaged or missing.
        EngineError: the program does not fit the model.
        EngineMissing: there is no such device here.
    """
    path, here = folder / PROGRAM_FILE, device_named(device)
    program = _checked(path)
    names = {table_of(one) for one in model.schema.features if not isinstance(one, DenseFeature)}
    used = {name: table for name, table in model.tables.items() if name in names}
    tables = DeviceTables(used, here.torch_device, default_budget(here) if table_bytes is None else table_bytes)
    _LOGGER.info("%s: %s", model.name, tables.told)
    plan = plan_inputs(model, program, tables)
    if plan is None:
        got = str([slot.width for slot in program.inputs])
        raise EngineError("the program does not fit the model", where=str(path), got=got)
    lookup = HostLookup(model.schema, model.tables, plan.host) if plan.host else None
    return DeviceRunner(Feed(plan, lookup, tables), DeviceProgram(program, here.torch_device, form), here)


def _checked(path: Path) -> Program:
    """The program in a file. The native engine's reader checks that nothing in it points beside what it has."""
    try:
        _native.Program(np.memmap(path, np.uint8, "r"))
        return read_program(path.read_bytes())
    except (OSError, EngineError, ValueError, IndexError, struct.error) as error:
        hint = "The file is damaged, or was built by another version: run `rankine compile` again."
        raise ArtifactError("is no program of the engine", where=str(path), got=str(error), hint=hint) from None

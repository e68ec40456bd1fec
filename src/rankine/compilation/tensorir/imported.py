"""Graphs with operators that there are no steps for: imported by Relax as they are, with dynamic rows.

What this gives is right and slow: Relax's default lowering, and for matrix products by constants a schedule that reads
the weights in vectors. It runs on TVM's virtual machine, so that here TVM is needed to open too.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, HostLookup
from rankine.compilation.tensorir.instruction_sets import InstructionSet, chosen, runs_here
from rankine.compilation.tensorir.library import tirx, tvm
from rankine.errors import ArtifactError, EngineError

__all__ = ["IMPORTED_FILE", "build_imported", "open_imported"]

IMPORTED_FILE, _ABOUT_FILE = "imported.so", "imported.json"
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, AssertionError, NotImplementedError)
"""What the importer and the compiler raise for what they cannot do."""


def build_imported(graph: onnx.ModelProto, machine: InstructionSet, folder: Path) -> None:
    """Import, schedule, compile and link a graph.

    Raises:
        EngineError: Relax cannot import or compile it.
    """
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    target, tasks = tvm.target.Target(machine.target), _tasks(graph)
    try:
        with warnings.catch_warnings(), target, tvm.transform.PassContext(opt_level=3):
            warnings.simplefilter("ignore")  # the importer tells of everything that a graph could say, and does not
            module = from_onnx(_with_dynamic_rows(graph))
            for one in (
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
            ):
                module = one(module)
            relax.build(_scheduled(module, machine), target).export_library(str(folder / IMPORTED_FILE))
    except _FAILURES as error:
        lines = str(error).strip().splitlines()
        raise EngineError("Relax cannot import the graph", got=lines[-1] if lines else type(error).__name__) from error
    names = [value.name for value in graph.graph.input]
    about = {"instruction_set": machine.name, "inputs": names, "tasks": tasks}
    (folder / _ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def open_imported(folder: Path, lookup: HostLookup) -> HostRunner:
    """A runner of what :func:`build_imported` wrote; a call is computed by the thread that makes it."""
    try:
        about = json.loads((folder / _ABOUT_FILE).read_text(encoding="utf-8"))
        library = tvm.runtime.load_module(str(folder / IMPORTED_FILE))
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError("is no program of TVM", where=str(folder), got=str(error)) from None
    if not runs_here(chosen(about["instruction_set"])):
        raise EngineError("this processor does not run what was compiled", got=about["instruction_set"])
    arrays = lookup.arrays_of(tuple(about["inputs"]))
    return HostRunner(lookup, about["tasks"], lambda: _Lane(library, arrays))


class _Lane:
    """A virtual machine of its own, which is not to be called twice at a time."""

    def __init__(self, library: Any, arrays: Sequence[tuple[int, DType]]) -> None:
        from tvm import relax

        self._run = relax.VirtualMachine(library, tvm.cpu())["main"]
        self._buffers = InputBuffers(arrays)
        self._views: tuple[np.ndarray, ...] = ()

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        self._views = self._buffers.views(rows)
        return self._views

    def execute(self, rows: int, out: np.ndarray) -> None:
        try:
            result = self._run(*(tvm.runtime.tensor(view) for view in self._views))
        except _FAILURES as error:
            raise EngineError("TVM failed", got=str(error)) from error
        np.copyto(out, result.numpy())


def _tasks(graph: onnx.ModelProto) -> int:
    sizes = [[int(dim.dim_value) for dim in value.type.tensor_type.shape.dim] for value in graph.graph.output]
    if len(sizes) != 1 or len(sizes[0]) != 2 or not sizes[0][1]:
        raise EngineError("the graph's output is not logits", got=str(sizes), allowed="one (rows, tasks)")
    return sizes[0][1]


def _with_dynamic_rows(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose rows have a name: a graph may have come with a fixed batch."""
    found = onnx.ModelProto()
    found.CopyFrom(graph)
    for value in found.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    return found


def _scheduled(module: Any, machine: InstructionSet) -> Any:
    """Matrix products whose columns are whole vectors: a row's sums of one vector for all products, then the next."""
    from tvm import s_tir

    for name, function in module.functions.items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        schedule = s_tir.Schedule(function)
        try:
            block = schedule.get_sblock("matmul")
        except s_tir.schedule.ScheduleError:
            continue  # it has none
        *outer, column, inner = schedule.get_loops(block)
        count = schedule.get(column).extent
        if not isinstance(count, tvm.tirx.IntImm) or int(count) % machine.lanes:
            continue
        across, lane = schedule.split(column, [None, machine.lanes])
        schedule.reorder(*outer, across, inner, lane)
        schedule.vectorize(lane)
        schedule.decompose_reduction(block, inner)
        module[name] = schedule.mod["main"]
    return module

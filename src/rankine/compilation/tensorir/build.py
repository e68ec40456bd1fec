"""One graph into a folder: its library, its constants, and what has to be known to call it."""

from __future__ import annotations

from pathlib import Path

import onnx

from rankine.compilation.fused.drafting import Refused
from rankine.compilation.fused.lower import drafted
from rankine.compilation.tensorir.compile import compile_library
from rankine.compilation.tensorir.imported import build_imported
from rankine.compilation.tensorir.instruction_sets import InstructionSet
from rankine.compilation.tensorir.program import programmed
from rankine.compilation.tensorir.runner import CONSTANTS_FILE, LAYOUT_FILE, LIBRARY_FILE, Layout
from rankine.errors import EngineError

__all__ = ["build_graph"]


def build_graph(graph: onnx.ModelProto, machine: InstructionSet, folder: Path) -> None:
    """Lower, schedule, compile and link a graph; its weights are packed beside the library. A graph that cannot be
    lowered is left to Relax.

    Raises:
        EngineError: names each node that has no step, where Relax has no operator for it either; or the program cannot
            be compiled or linked.
    """
    try:
        draft = drafted(graph)
    except Refused as refused:
        _import(graph, machine, folder, refused)
        return
    program = programmed(draft, machine)
    compile_library(program.functions, machine, folder / LIBRARY_FILE)
    (folder / CONSTANTS_FILE).write_bytes(program.constants)
    layout = Layout(
        instruction_set=machine.name, inputs=program.names, arena_bytes=program.arena_bytes, tasks=program.tasks
    )
    (folder / LAYOUT_FILE).write_text(layout.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _import(graph: onnx.ModelProto, machine: InstructionSet, folder: Path, refused: Refused) -> None:
    try:
        build_imported(graph, machine, folder)
    except EngineError as error:
        raise EngineError(
            "the engine tvm has no schedule for the graph, and Relax does not import it",
            got=f"{'; '.join(refused.reasons)}; Relax: {error.got}",
            hint="Another engine runs it: `rankine doctor` lists those that are installed.",
        ) from error

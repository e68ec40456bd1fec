"""AOTInductor: the dense graph compiled ahead of time by PyTorch's own compiler, and loaded without tracing.

The graph is run as PyTorch operators, exported with an open number of rows, and compiled to one shared library. A C++
compiler is needed where it is built; where it is opened PyTorch is, of the same version, and neither its tracer nor its
compiler is imported. The library is made of this processor's instructions, and refused where one is missing.

The canonical QDQ form runs as it is: its roundings are those that the compiler fuses into oneDNN's INT8 layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankine.artifact import read_record
from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.inductor.library import Container, Inputs, Library
from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, open_lookup
from rankine.config import Frozen
from rankine.environment import environment
from rankine.errors import EngineError

__all__ = ["Inductor", "engine"]

_LIBRARY, _FACTS = "graph.so", "facts.json"


class _Facts(Frozen):
    """What a library was built for."""

    schema_version: int = 1
    torch: str
    machine: str
    instruction_sets: tuple[str, ...]
    inputs: tuple[str, ...]
    tasks: int


class Inductor:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        return Capabilities(name="inductor", version=f"torch {torch.__version__}", on_request=True)

    def build(self, model: Model, target: Target, folder: Path) -> None:
        from rankine.compilation.engines.inductor.build import build_library
        from rankine.compilation.pack_inputs import packed_graph

        graph = packed_graph(model)
        tasks = build_library(graph, folder / _LIBRARY, str(model.graph))
        facts = _Facts(**_here(), inputs=tuple(value.name for value in graph.graph.input), tasks=tasks)
        (folder / _FACTS).write_text(facts.model_dump_json(indent=1), encoding="utf-8")

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> HostRunner:
        facts = read_record(folder / _FACTS, _Facts)
        _check_here(facts, folder)
        lookup = open_lookup(model)
        arrays = lookup.arrays_of(facts.inputs)
        library = Library(folder / _LIBRARY)
        first = [_Lane(library, arrays, threads)]  # a library that does not run is told of here, not when serving

        def open_lane() -> _Lane:
            try:
                return first.pop()
            except IndexError:
                return _Lane(library, arrays, threads)

        return HostRunner(lookup, facts.tasks, open_lane)


def engine() -> Inductor:
    return Inductor()


class _Lane:
    """An instance of the graph of its own: calls of one instance would wait for each other."""

    def __init__(self, library: Library, arrays: Sequence[tuple[int, DType]], threads: int) -> None:
        self._library = library
        self._container = Container(library)
        self._buffers = InputBuffers(arrays)
        self._threads = threads
        self._bound: tuple[np.ndarray, ...] = ()
        self._inputs = Inputs(library, ())

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        views = self._buffers.views(rows)
        if views is not self._bound:
            self._inputs, self._bound = Inputs(self._library, views), views
        return views

    def execute(self, rows: int, out: np.ndarray) -> None:
        # OpenMP keeps the number of threads for each calling thread; PyTorch's own is what new ones begin with.
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._container.run(self._inputs, out)


def _here() -> dict[str, Any]:
    here = environment()
    sets = str(here["instruction_sets"]).split()
    return {"torch": torch.__version__, "machine": here["machine"], "instruction_sets": sets}


def _check_here(facts: _Facts, folder: Path) -> None:
    """Hold this machine to what a library needs: a missing instruction would end the process.

    Raises:
        EngineError: names what is missing.
    """
    here = _here()
    missing = [] if facts.torch == here["torch"] else [f"torch {facts.torch}"]
    missing += [] if facts.machine == here["machine"] else [facts.machine]
    missing += [name for name in facts.instruction_sets if name not in here["instruction_sets"]]
    if missing:
        raise EngineError(
            "was compiled for another machine or another PyTorch",
            where=str(folder),
            got=f"torch {here['torch']} on {here['machine']}, without {', '.join(missing)}",
            hint="Run `rankine compile` with --engine inductor here.",
        )

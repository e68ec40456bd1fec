"""TVM: a graph becomes functions of TensorIR with schedules of our own, compiled once into a shared library.

TVM is a compiler here, and only that: what it makes is opened and run without it. Its own pipeline for CPUs has no
schedule for matrix products, and its runtime's threads spin. See ``docs/explanation/tvm-engine.md``.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import open_lookup
from rankine.compilation.tensorir.instruction_sets import chosen
from rankine.compilation.tensorir.runner import LAYOUT_FILE, open_runner

__all__ = ["Tvm", "engine"]


class Tvm:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def __init__(self) -> None:
        try:
            self._version = version("apache-tvm")
        except PackageNotFoundError as error:
            raise ImportError("the package 'apache-tvm' is not installed") from error

    def capabilities(self) -> Capabilities:
        return Capabilities(name="tvm", version=self._version)

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Lower, schedule, compile and link; the weights are packed beside the library."""
        from rankine.compilation.pack_inputs import packed_graph
        from rankine.compilation.tensorir.build import build_graph

        build_graph(packed_graph(model), chosen(target.instruction_set), folder)

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> HostRunner:
        if (folder / LAYOUT_FILE).exists():
            return open_runner(folder, open_lookup(model), threads=threads)
        from rankine.compilation.tensorir.imported import open_imported

        return open_imported(folder, open_lookup(model))


def engine() -> Tvm:
    return Tvm()

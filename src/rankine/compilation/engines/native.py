"""The native engine: a whole model, or its request's and candidate's part, in one fused call on the CPU.

A graph is lowered to a program of tile operations (:mod:`rankine.compilation.fused`), whose weights are packed once, at
build, and mapped when it is opened. Lookups are its own. See ``docs/explanation/native-engine.md``.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from rankine import __version__, _native
from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.fused.runner import FusedRunner, Part
from rankine.compilation.fused.sources import bind_sources
from rankine.errors import ArtifactError

__all__ = ["Native", "engine"]

_PROGRAM_FILE = "program.bin"
_KERNELS = {"x86_64": ("x86-64 AVX2", "x86-64 AVX-512 VNNI", "x86-64 AMX INT8")}
"""What the module holds kernels for beside plain C++, by architecture; one is chosen when a program is opened."""


class Native:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        kernels = _KERNELS.get(platform.machine(), ())
        return Capabilities(name="native", version=__version__, lookups=True, own=True, compiles_for=kernels)

    def build(self, model: Model, target: Target, folder: Path) -> None:
        from rankine.compilation.fused.lower import lower
        from rankine.compilation.fused.program import write_program

        write_program(lower(model), folder / _PROGRAM_FILE)

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> FusedRunner:
        return FusedRunner(_part(model, folder), threads=threads)

    def open_parts(
        self, request: Model, request_folder: Path, candidate: Model, folder: Path, *, device: str, threads: int
    ) -> FusedRunner:
        """See :class:`rankine.compilation.engine.PartsEngine`."""
        return FusedRunner(_part(candidate, folder), _part(request, request_folder), threads=threads)


def engine() -> Native:
    return Native()


def _part(model: Model, folder: Path) -> Part:
    path = folder / _PROGRAM_FILE
    try:
        program = _native.Program(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        hint = "The file is damaged, or was built by another version: run `rankine compile` again."
        raise ArtifactError("is no program of the native engine", where=str(path), got=str(error), hint=hint) from None
    return Part(program, bind_sources(model, len(program.inputs)))

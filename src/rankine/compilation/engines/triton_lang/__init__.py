"""Triton-lang: a graph's fused steps as GPU kernels of our own.

A graph is lowered and fused as for the native engine, into the same file; here its steps are launches of kernels, which
Triton-lang compiles for the GPU that is found when they are first run. Where no GPU is, its interpreter runs the same
kernels on the CPU, to verify them: set ``TRITON_INTERPRET=1``. See ``docs/explanation/triton-lang-engine.md``.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.triton_lang.available import GPU, INTERPRETER, devices_here
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import open_lookup

__all__ = ["TritonLang", "engine"]

_HINTS = {
    GPU: "Needs an NVIDIA GPU, PyTorch's build for it, and TRITON_INTERPRET unset.",
    INTERPRETER: "Set TRITON_INTERPRET=1 before the process starts: kernels are then run on the CPU, to verify them.",
}


class TritonLang:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def __init__(self) -> None:
        try:
            self._version = version("triton")
        except PackageNotFoundError as error:
            raise ImportError("the package 'triton' is not installed") from error
        if find_spec("torch") is None:
            raise ImportError("the package 'torch' is not installed")
        self._devices = devices_here()
        if not self._devices:
            raise ImportError(
                "no NVIDIA GPU that PyTorch could use is here; to verify the engine without one, set TRITON_INTERPRET=1"
            )

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="triton-lang",
            version=self._version,
            devices=self._devices,
            device_hints={name: hint for name, hint in _HINTS.items() if name not in self._devices},
            own=True,
            on_request=True,
            stand_ins={name: "interpreter" for name in self._devices if name == INTERPRETER},
        )

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Lower and fuse; kernels are compiled where they run."""
        from rankine.compilation.engines.triton_lang.runner import PROGRAM_FILE
        from rankine.compilation.fused.lower import lower_graph
        from rankine.compilation.fused.program import write_program
        from rankine.compilation.pack_inputs import packed_graph

        write_program(lower_graph(packed_graph(model)), folder / PROGRAM_FILE)

    def open(self, model: Model, folder: Path, *, device: str = "", threads: int = 1) -> HostRunner:
        """Calls that run at the same time each have a stream; ``threads`` means nothing to a GPU."""
        from rankine.compilation.engines.triton_lang.runner import open_runner

        return open_runner(folder, open_lookup(model), device=device or self._devices[0])


def engine() -> TritonLang:
    return TritonLang()

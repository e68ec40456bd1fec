"""Triton-lang: a graph's fused steps as GPU kernels of our own.

A graph is lowered and fused as for the native engine, into the same file; here its steps are launches of kernels, which
Triton-lang compiles for the GPU that is found when they are first run. Where no GPU is, its interpreter runs the same
kernels on the CPU, to verify them: set ``TRITON_INTERPRET=1``. See ``docs/explanation/triton-lang-engine.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from rankine.compilation.engine import Capabilities, Model, Runner, Target
from rankine.compilation.engines.triton_lang.available import GPU, INTERPRETER, devices_here
from rankine.config import Frozen, parse

__all__ = ["TritonLang", "TritonLangOptions", "engine"]

_HINTS = {
    GPU: "Needs an NVIDIA GPU, PyTorch's build for it, and TRITON_INTERPRET unset.",
    INTERPRETER: "Set TRITON_INTERPRET=1 before the process starts: kernels are then run on the CPU, to verify them.",
}


class TritonLangOptions(Frozen):
    """Options of the engine.

    Attributes:
        tables_gib: GPU memory for tables, in GiB. Those that fit lie there whole, of others the rows that are asked for
            most; the rest comes from the host, call by call. 0: the host looks up. None: half of what is free when a
            runner is opened.
    """

    tables_gib: float | None = Field(default=None, ge=0, le=1 << 20, allow_inf_nan=False)


class TritonLang:
    """The engine; see :class:`rankine.compilation.engine.ConfigurableEngine`."""

    def __init__(self, options: TritonLangOptions | None = None) -> None:
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
        self.options = options or TritonLangOptions()

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="triton-lang",
            version=self._version,
            devices=self._devices,
            device_hints={name: hint for name, hint in _HINTS.items() if name not in self._devices},
            lookups=True,
            own=True,
            on_request=True,
            stand_ins={name: "interpreter" for name in self._devices if name == INTERPRETER},
            options={"tables_gib": "GPU memory for tables; half of what is free"},
        )

    def configured(self, options: Mapping[str, str]) -> TritonLang:
        """The engine with :class:`TritonLangOptions` of these fields.

        Raises:
            ConfigError: an option that it does not have, or a value that makes no sense.
        """
        return TritonLang(parse(TritonLangOptions, options, source="triton-lang"))

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Lower and fuse; kernels are compiled where they run."""
        from rankine.compilation.engines.triton_lang.runner import PROGRAM_FILE
        from rankine.compilation.fused.lower import lower_graph
        from rankine.compilation.fused.program import write_program
        from rankine.compilation.pack_inputs import packed_graph

        write_program(lower_graph(packed_graph(model)), folder / PROGRAM_FILE)

    def open(self, model: Model, folder: Path, *, device: str = "", threads: int = 1) -> Runner:
        """Calls that run at the same time each have a stream; ``threads`` means nothing to a GPU."""
        from rankine.compilation.engines.triton_lang.runner import open_runner

        gib = self.options.tables_gib
        table_bytes = None if gib is None else int(gib * (1 << 30))
        return open_runner(model, folder, device=device or self._devices[0], table_bytes=table_bytes)


def engine() -> TritonLang:
    return TritonLang()

"""Instruction sets that programs are scheduled for, and which of them this processor has."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from rankine.errors import EngineError, did_you_mean

__all__ = ["INSTRUCTION_SETS", "Dot", "InstructionSet", "best_here", "chosen", "may_use_tiles", "runs_here"]

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Linux's numbers, on x86-64."""

Dot = Literal["vpdpbusd", "pmaddwd", "multiply", "sdot", "usdot"]
"""The instruction that adds integer products."""


@dataclass(frozen=True)
class InstructionSet:
    """One target of the compiler, and the shape of the kernels for it.

    Attributes:
        architecture: the machine's, as Python names it.
        flags: of the processor that it needs, as Linux names them.
        triple: of LLVM.
        processor: LLVM's name of one that has it.
        features: of LLVM, beyond the processor's.
        lanes: float32 or int32 in a register.
        rows, vectors: of a matrix kernel's block; their product is the number of accumulators.
        dot: how integer products are added.
        tiles: whether integer products of many rows are AMX's.
    """

    name: str
    architecture: str
    flags: frozenset[str]
    triple: str
    processor: str
    features: tuple[str, ...]
    lanes: int
    rows: int
    vectors: int
    dot: Dot
    tiles: bool = False

    @property
    def target(self) -> dict[str, object]:
        """As TVM takes it."""
        found: dict[str, object] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.processor}
        return {**found, "mattr": list(self.features)} if self.features else found


_X86, _ARM = "x86_64-linux-gnu", "aarch64-linux-gnu"
_AVX2 = frozenset({"avx2", "fma"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_VNNI = _AVX512 | {"avx512_vnni"}

INSTRUCTION_SETS: tuple[InstructionSet, ...] = (
    InstructionSet(
        "amx-int8",
        "x86_64",
        _VNNI | {"amx_tile", "amx_int8"},
        _X86,
        "cascadelake",
        ("+amx-tile", "+amx-int8"),
        16,
        6,
        4,
        "vpdpbusd",
        tiles=True,
    ),
    InstructionSet("avx512-vnni", "x86_64", _VNNI, _X86, "cascadelake", (), 16, 6, 4, "vpdpbusd"),
    InstructionSet("avx512", "x86_64", _AVX512, _X86, "skylake-avx512", (), 16, 6, 4, "pmaddwd"),
    InstructionSet("avx2-vnni", "x86_64", _AVX2 | {"avx_vnni"}, _X86, "haswell", ("+avxvnni",), 8, 6, 2, "vpdpbusd"),
    InstructionSet("avx2", "x86_64", _AVX2, _X86, "haswell", (), 8, 6, 2, "pmaddwd"),
    InstructionSet("generic-x86", "x86_64", frozenset(), _X86, "x86-64", (), 4, 3, 2, "multiply"),
    InstructionSet(
        "neon-i8mm",
        "aarch64",
        frozenset({"asimddp", "i8mm"}),
        _ARM,
        "generic",
        ("+neon", "+dotprod", "+i8mm"),
        4,
        6,
        4,
        "usdot",
    ),
    InstructionSet(
        "neon-dotprod", "aarch64", frozenset({"asimddp"}), _ARM, "generic", ("+neon", "+dotprod"), 4, 6, 4, "sdot"
    ),
    InstructionSet("generic-arm", "aarch64", frozenset(), _ARM, "generic", ("+neon",), 4, 4, 2, "multiply"),
)
"""The best of each architecture first."""


def chosen(name: str) -> InstructionSet:
    """The instruction set that a target names; ``native`` is the best one here.

    Raises:
        EngineError: there is none of this name.
    """
    if name == "native":
        return best_here()
    known = {one.name: one for one in INSTRUCTION_SETS}
    if name not in known:
        raise EngineError("unknown instruction set", got=name, hint=did_you_mean(name, [*known, "native"]))
    return known[name]


def best_here() -> InstructionSet:
    """The best instruction set that this processor runs.

    Raises:
        EngineError: the processor is of an architecture that nothing is scheduled for.
    """
    for one in INSTRUCTION_SETS:
        if runs_here(one):
            return one
    known = ", ".join(sorted({one.architecture for one in INSTRUCTION_SETS}))
    raise EngineError("the engine has no schedules for this processor", got=platform.machine(), allowed=known)


def runs_here(instruction_set: InstructionSet) -> bool:
    """Whether this processor, and its operating system, run what was compiled for an instruction set."""
    if instruction_set.architecture != _architecture():
        return False
    return instruction_set.flags <= _flags() and (not instruction_set.tiles or may_use_tiles())


def may_use_tiles() -> bool:
    """Ask Linux for the tile registers of AMX, which a process has to before it uses them; whether it gives them."""
    if sys.platform != "linux" or _architecture() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def _architecture() -> str:
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())


@cache
def _flags() -> frozenset[str]:
    """Of the processor, as Linux tells them; none are known elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()

"""Where something was measured: processor, instruction sets, memory, versions. Every result carries it.

A latency without its machine is no result. Libraries are looked up in their installed metadata, never imported, so
that a result can name torch's version without paying for torch.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

__all__ = ["LIBRARIES", "environment", "instruction_set", "processor"]

LIBRARIES = (
    "rankine",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "apache-tvm",
    "jax",
    "libtpu",
    "torch",
    "triton",
    "uvicorn",
    "aiohttp",
)

# What decides the speed of INT8 and FP16 on a processor, as Linux names it (x86-64, then Arm).
_INSTRUCTION_SETS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)

# By which the kernels of engines choose among themselves, the fastest first.
_CHOSEN_BY = (
    "amx_int8",
    "avx512_vnni",
    "avx_vnni",
    "avx512f",
    "avx2",
    "sve",
    "i8mm",
    "asimddp",
    "asimd",
)


def environment() -> dict[str, str | int | float]:
    """The machine and the installed versions, flat, ready for JSON.

    ``cores`` counts the cores that this process may use, ``cores_online`` those of the machine; ``memory_gib`` is
    physical memory. Libraries that are not installed are absent.
    """
    model, instruction_sets = processor(Path("/proc/cpuinfo"))
    found: dict[str, str | int | float] = {
        "cpu": model,
        "instruction_sets": " ".join(instruction_sets),
        "cores": _usable_cores(),
        "cores_online": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    return found | _versions()


def instruction_set() -> str:
    """The instruction set by which engines choose their kernels here, e.g. ``avx512_vnni``: scores may differ by it in
    the last digits. The machine's architecture where none is known."""
    here = processor(Path("/proc/cpuinfo"))[1]
    return next((name for name in _CHOSEN_BY if name in here), platform.machine())


def processor(cpuinfo: Path) -> tuple[str, list[str]]:
    """Model name and instruction sets of interest from a ``/proc/cpuinfo``; what is not told there is left out."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: the name is all that the standard library tells
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.machine(), [name for name in _INSTRUCTION_SETS if name in flags]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found

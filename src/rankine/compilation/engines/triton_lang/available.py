"""Which devices this process can open, found without importing PyTorch or Triton-lang, which takes seconds."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

__all__ = ["GPU", "INTERPRETER", "devices_here"]

GPU, INTERPRETER = "cuda", "interpreter"
_SWITCH = "TRITON_INTERPRET"
_ON = ("1", "true", "on", "yes", "y")
_CUDA_LIBRARY = "libtorch_cuda.so"
"""Of PyTorch's builds for GPUs."""


def devices_here() -> tuple[str, ...]:
    """Names of the devices that can be opened here: the interpreter where it is on, which is chosen for a whole process
    before it starts; else a GPU where one is, and PyTorch is of a build for it."""
    if os.environ.get(_SWITCH, "").lower() in _ON:
        return (INTERPRETER,)
    return (GPU,) if _is_built_for_gpus() and _gpus() > 0 else ()


def _is_built_for_gpus() -> bool:
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    return (Path(found.origin).parent / "lib" / _CUDA_LIBRARY).exists()


def _gpus() -> int:
    """As the driver counts them; 0 where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value

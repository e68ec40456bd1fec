"""JAX in this process: which devices it looks for, where it keeps what it has compiled."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rankine.environment import processor

__all__ = ["CPU", "TPU", "compiled_cache", "devices", "set_up"]

CPU, TPU = "cpu", "tpu"


@cache
def devices() -> tuple[str, ...]:
    """The devices that are here: a TPU where one is attached and answers."""
    nodes = (*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*"))
    if not nodes or find_spec("libtpu") is None:  # JAX is not asked in vain, which takes seconds
        return (CPU,)
    import jax

    try:
        jax.devices(TPU)
    except RuntimeError:
        return (CPU,)
    return (CPU, TPU)


@cache
def set_up() -> None:
    """Settings of JAX for the whole process; those that someone else has made stay.

    * Where there is no TPU, none is looked for.
    * A call on the CPU is computed by the thread that makes it, and not handed to another one.
    * What was compiled is kept for the next start: a program takes about a second for each number of rows.
    """
    import jax

    if TPU not in devices() and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", CPU)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(compiled_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compiled_cache() -> Path:
    """``$RANKINE_CACHE/xla``, else ``rankine/xla`` in the user's cache, and in it a folder for each kind of processor:
    what was compiled holds instructions that another one may not have."""
    model, instruction_sets = processor(Path("/proc/cpuinfo"))
    here = " ".join((platform.machine(), model, *instruction_sets))
    folder = hashlib.sha256(here.encode()).hexdigest()[:16]
    if chosen := os.environ.get("RANKINE_CACHE"):
        return Path(chosen) / "xla" / folder
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "rankine" / "xla" / folder

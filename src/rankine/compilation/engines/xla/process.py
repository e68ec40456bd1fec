"""JAX in this process: which devices it looks for, where it keeps what it has compiled."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from rankine.environment import environment, processor
from rankine.errors import EngineError

__all__ = ["CPU", "TPU", "check_threads", "compiled_cache", "devices", "set_up"]

CPU, TPU = "cpu", "tpu"
_THREADS, _THREADS_A_CORE = 16, 6
"""More than JAX 0.10 was seen to start: 10 on one core, 15 on two."""


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

    Raises:
        EngineError: the system refuses as many threads as XLA starts.
    """
    import jax

    check_threads()
    if TPU not in devices() and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", CPU)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(compiled_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def check_threads(count: int | None = None) -> None:
    """Start and end as many threads as XLA does when it opens the CPU: where one of its own is refused, it ends the
    whole process with no more than a trace.

    Args:
        count: None for what XLA starts on the cores that this process may use.

    Raises:
        EngineError: they are refused, by a limit of the user, the container or the memory.
    """
    wanted = _THREADS + _THREADS_A_CORE * int(environment()["cores"]) if count is None else count
    over, started = threading.Event(), []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        raise EngineError(
            "the system refuses the threads that XLA starts",
            where="xla",
            got=f"{len(started)} threads, then: {error}",
            allowed=f"{wanted} threads",
            hint="Raise the limit: `ulimit -u` (threads), `ulimit -v` (memory), or the container's pids.max.",
        ) from error
    finally:
        over.set()
        for thread in started:
            thread.join()


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

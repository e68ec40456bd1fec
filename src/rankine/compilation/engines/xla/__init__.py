"""XLA: the dense graph as StableHLO, for TPUs, and on the CPU, where the same program's numbers are verified.

A build is one program with an open number of rows, and its weights beside it. An open runner has it compiled for fixed
numbers of rows: a batch is padded to one of them, a larger one runs in parts. libtpu's compiler for TPUs v5e, v5p and
v6e needs no TPU; what it says of a program is in ``docs/reference/xla-tpu.md``. No TPU has run one here yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.xla.process import CPU, TPU, devices, set_up
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import open_lookup
from rankine.compilation.row_buckets import ROW_BUCKETS, BucketLane
from rankine.errors import EngineError, EngineMissing

__all__ = ["Xla", "engine"]

_TPUS = ("TPU v5e", "TPU v5p", "TPU v6e")
_TPU_HINT = "Needs a machine with a Cloud TPU, and libtpu: pip install 'rankine[xla]'."


class Xla:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def __init__(self) -> None:
        try:
            self._version = version("jax")
        except PackageNotFoundError as error:
            raise ImportError("the package 'jax' is not installed") from error

    def capabilities(self) -> Capabilities:
        here, compiled = devices(), _TPUS if find_spec("libtpu") else ()
        return Capabilities(
            name="xla",
            version=f"jax {self._version}",
            devices=here,
            device_hints={} if TPU in here else {TPU: _TPU_HINT},
            static_buckets=True,
            compiles_for=compiled,
            on_request=True,
            stand_ins=dict.fromkeys(compiled if TPU not in here else (), "cpu"),
        )

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Export the graph; for a target that is one of ``compiles_for`` its compiler must take every bucket too."""
        from rankine.compilation.engines.xla.program import read_program, write_program
        from rankine.compilation.pack_inputs import packed_graph

        set_up()
        buckets = target.row_buckets or ROW_BUCKETS
        write_program(packed_graph(model), folder, buckets, str(model.graph))
        if target.device in _TPUS:
            from rankine.compilation.engines.xla.tpu import compile_for_tpu

            program = read_program(folder)
            for rows in program.facts.row_buckets:
                compile_for_tpu(program, target.device, rows)

    def open(self, model: Model, folder: Path, *, device: str = CPU, threads: int = 1) -> HostRunner:
        if device not in (here := devices()):
            hint = _TPU_HINT if device == TPU else None
            allowed = ", ".join(here)
            raise EngineMissing("has no such device here", where="xla", got=device, allowed=allowed, hint=hint)
        import jax
        from jax.sharding import SingleDeviceSharding

        from rankine.compilation.engines.xla.program import read_program

        set_up()
        place, program = SingleDeviceSharding(jax.devices(device)[0]), read_program(folder)
        lookup = open_lookup(model)
        arrays = lookup.arrays_of(program.facts.inputs)
        options = {"xla_cpu_multi_thread_eigen": threads > 1} if device == CPU else {}
        weights = jax.device_put(list(program.weights), place)
        buckets = program.facts.row_buckets
        runs = {rows: partial(_run, program.compiled(rows, place, options), weights) for rows in buckets}
        return HostRunner(lookup, program.facts.tasks, lambda: BucketLane(runs, arrays))


def engine() -> Xla:
    return Xla()


def _run(compiled: Any, weights: Sequence[Any], views: Sequence[np.ndarray]) -> np.ndarray:
    """Logits, float32 ``(rows of the program, tasks)``; programs and weights are shared, and keep no state."""
    try:
        return np.asarray(compiled(weights, *views))
    except (RuntimeError, ValueError, TypeError) as error:
        raise EngineError("XLA failed", got=str(error)) from error

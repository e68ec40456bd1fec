"""XLA: the dense graph as StableHLO, for TPUs, and on the CPU, where the same program's numbers are verified.

A build is one program with an open number of rows, and its weights beside it. An open runner has it compiled for fixed
numbers of rows: a batch is padded to one of them, a larger one runs in parts. libtpu's compiler for TPUs v5e, v5p and
v6e needs no TPU; what it says of a program is in ``docs/reference/xla-tpu.md``. No TPU has run one here yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.xla.process import CPU, TPU, devices, set_up
from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, open_lookup
from rankine.errors import EngineError, EngineMissing

__all__ = ["ROW_BUCKETS", "Xla", "engine"]

ROW_BUCKETS = (1, 16, 64, 256, 1024)
"""Numbers of rows that a runner is opened with where a build names none."""
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
        fixed = {rows: program.compiled(rows, place, options) for rows in program.facts.row_buckets}
        weights = jax.device_put(list(program.weights), place)
        return HostRunner(lookup, program.facts.tasks, lambda: _Lane(fixed, weights, arrays))


def engine() -> Xla:
    return Xla()


class _Lane:
    """Input buffers of its own; the compiled programs and the weights are shared, and keep no state."""

    def __init__(self, fixed: Mapping[int, Any], weights: Sequence[Any], arrays: Sequence[tuple[int, DType]]) -> None:
        self._fixed = fixed
        self._weights = weights
        self._buckets = sorted(fixed)
        self._buffers = InputBuffers(arrays)

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        return tuple(view[:rows] for view in self._buffers.views(sum(self._parts(rows))))

    def execute(self, rows: int, out: np.ndarray) -> None:
        parts, start = self._parts(rows), 0
        views = self._buffers.views(sum(parts))
        for bucket in parts:
            end = min(start + bucket, rows)
            try:
                logits = self._fixed[bucket](self._weights, *(view[start : start + bucket] for view in views))
                np.copyto(out[start:end], np.asarray(logits)[: end - start])
            except (RuntimeError, ValueError, TypeError) as error:
                raise EngineError("XLA failed", got=str(error)) from error
            start = end

    def _parts(self, rows: int) -> list[int]:
        """Buckets that hold ``rows`` rows, one after the other: the largest, then the least that holds the rest."""
        whole, rest = divmod(rows, self._buckets[-1])
        return [self._buckets[-1]] * whole + ([next(one for one in self._buckets if one >= rest)] if rest else [])

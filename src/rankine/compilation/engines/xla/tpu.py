"""Compiling for a TPU that is not here: libtpu holds the compiler, and describes each generation to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from rankine.compilation.engines.xla.process import TPU, devices
from rankine.compilation.engines.xla.program import Program
from rankine.config import Frozen
from rankine.errors import EngineMissing, did_you_mean

__all__ = ["GENERATIONS", "TpuFigures", "compile_for_tpu"]

GENERATIONS: Mapping[str, str] = {"TPU v5e": "v5e:2x2", "TPU v5p": "v5p:2x2x1", "TPU v6e": "v6e:2x2"}
"""The smallest whole host of each generation; a program runs on one chip of it."""


class TpuFigures(Frozen):
    """What the TPU's compiler says of a program that it has compiled; no part of it was run or timed.

    Attributes:
        flops: operations; one multiply-add is two.
        bytes_accessed: read and written in HBM, as the compiler counts it.
        argument_bytes: weights and inputs, as they lie in HBM, padded to tiles.
        output_bytes, temporary_bytes, code_bytes: the same of results, of what is held in between, of instructions.
    """

    generation: str
    rows: int
    flops: float
    bytes_accessed: float
    argument_bytes: int
    output_bytes: int
    temporary_bytes: int
    code_bytes: int


def compile_for_tpu(program: Program, generation: str, rows: int) -> TpuFigures:
    """Compile a program for one chip of a generation, on a machine that has none.

    Raises:
        EngineError: the compiler refuses the program, or it does not fit in the chip's memory.
        EngineMissing: libtpu is not installed, or the generation is unknown.
    """
    with _not_kept():
        compiled = program.compiled(rows, _chip(generation))
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    return TpuFigures(
        generation=generation,
        rows=rows,
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
    )


@contextmanager
def _not_kept() -> Iterator[None]:
    """Keep what is compiled for a chip that is not here out of JAX's cache of files: it cannot read it back."""
    import jax

    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    try:
        yield
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


@cache
def _chip(generation: str) -> Any:
    """One chip of a generation, as the compiler sees it."""
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    if generation not in GENERATIONS:
        hint = did_you_mean(generation, list(GENERATIONS))
        raise EngineMissing("no such TPU is known", where="xla", got=generation, hint=hint)
    if TPU not in devices():  # or libtpu asks the cloud which TPU this machine has, for minutes where there is none
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # its lock is for who would use a chip
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=GENERATIONS[generation])
    except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
        hint = "pip install 'rankine[xla]'"
        raise EngineMissing("the compiler for TPUs is not there", where="xla", got=str(error), hint=hint) from error
    return SingleDeviceSharding(topology.devices[0])

"""A dense function as StableHLO with an open number of rows: written at build, compiled for some rows when opened."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
from jax import export
from jax.sharding import Sharding

from rankine.artifact import read_record
from rankine.compilation.engines.xla.dense_function import dense_function
from rankine.config import Frozen
from rankine.errors import EngineError
from rankine.models.rewrite.graph import failures

__all__ = ["FACTS_FILE", "PROGRAM_FILE", "WEIGHTS_FILE", "Facts", "Program", "read_program", "write_program"]

PROGRAM_FILE, WEIGHTS_FILE, FACTS_FILE = "program.stablehlo", "weights.npz", "facts.json"
_PLATFORMS = ("cpu", "tpu")
_OPEN_ROWS = "rows"
_KEPT = 64
"""Programs, and what they were compiled to, that are kept in memory: weights are not in them. What is opened again is
there at once, and leaves nothing more behind in JAX's own caches."""


class Facts(Frozen):
    """What a program was made of.

    Attributes:
        inputs: names, in the program's order.
        row_buckets: the numbers of rows that it is opened with.
    """

    schema_version: int = 1
    jax: str
    inputs: tuple[str, ...]
    widths: tuple[int, ...]
    dtypes: tuple[str, ...]
    tasks: int
    row_buckets: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A program as it was read: StableHLO, from which no Python operator is called again."""

    facts: Facts
    weights: tuple[np.ndarray, ...]
    _content: bytes

    @property
    def stablehlo(self) -> str:
        """The program as text."""
        return str(_exported(self._content).mlir_module())

    def compiled(self, rows: int, sharding: Sharding, options: Mapping[str, Any] | None = None) -> Any:
        """The program compiled for a number of rows, on a device or for one that is not here.

        Raises:
            EngineError: XLA refuses it.
        """
        return _compiled(self._content, rows, sharding, tuple((options or {}).items()))


def write_program(graph: onnx.ModelProto, folder: Path, buckets: Sequence[int], where: str) -> None:
    """Export a graph, its number of rows open, for CPU and TPU alike; the weights lie beside it.

    Raises:
        EngineError: an operator is not known, or the graph depends on the number of rows.
    """
    function = dense_function(graph)
    (rows,) = export.symbolic_shape(_OPEN_ROWS)
    inputs = [jax.ShapeDtypeStruct((rows, width), kind) for _, width, kind in function.inputs]
    weights = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in function.weights]
    try:
        exported = export.export(jax.jit(function), platforms=_PLATFORMS)(weights, *inputs)
    except (*failures, NotImplementedError) as error:
        raise EngineError("JAX cannot export the graph", where=where, got=str(error)) from error
    (logits,) = exported.out_avals
    if len(logits.shape) != 2 or logits.shape[0] != rows or not isinstance(logits.shape[1], int):
        raise EngineError("the graph's output is not logits", got=str(logits.shape), allowed="(rows, tasks)")
    if logits.dtype != np.float32:
        raise EngineError("the graph's output is not logits", got=str(logits.dtype), allowed="float32")
    names, widths, kinds = zip(*function.inputs, strict=True)
    facts = Facts(
        jax=jax.__version__,
        inputs=names,
        widths=widths,
        dtypes=tuple(np.dtype(kind).name for kind in kinds),
        tasks=logits.shape[1],
        row_buckets=tuple(sorted(set(buckets))),
    )
    (folder / PROGRAM_FILE).write_bytes(exported.serialize())
    np.savez(folder / WEIGHTS_FILE, *function.weights)
    (folder / FACTS_FILE).write_text(facts.model_dump_json(indent=1), encoding="utf-8")


def read_program(folder: Path) -> Program:
    """What :func:`write_program` wrote.

    Raises:
        EngineError: it was made by a JAX that this one cannot read.
    """
    facts = read_record(folder / FACTS_FILE, Facts)
    try:
        content = (folder / PROGRAM_FILE).read_bytes()
        _exported(content)
        with contextlib.closing(np.load(io.BytesIO((folder / WEIGHTS_FILE).read_bytes()))) as stored:
            weights = tuple(stored[f"arr_{number}"] for number in range(len(stored.files)))
    except (OSError, *failures) as error:
        hint = "Run `rankine compile` with --engine xla here."
        got = f"{error}; it is of JAX {facts.jax}, this is {jax.__version__}"
        raise EngineError("the program cannot be read", where=str(folder), got=got, hint=hint) from error
    return Program(facts, weights, content)


@lru_cache(maxsize=_KEPT)
def _exported(content: bytes) -> export.Exported:
    return export.deserialize(bytearray(content))


@lru_cache(maxsize=_KEPT)
def _compiled(content: bytes, rows: int, sharding: Sharding, options: tuple[tuple[str, Any], ...]) -> Any:
    exported = _exported(content)
    given = [
        jax.ShapeDtypeStruct(
            tuple(size if isinstance(size, int) else rows for size in one.shape), one.dtype, sharding=sharding
        )
        for one in exported.in_avals
    ]
    arguments, _ = jax.tree.unflatten(exported.in_tree, given)
    platform = next(iter(sharding.device_set)).platform
    try:
        lowered = jax.jit(exported.call).trace(*arguments).lower(lowering_platforms=(platform,))
        return lowered.compile(compiler_options=dict(options))
    except (*failures, NotImplementedError) as error:
        raise EngineError("XLA cannot compile the program", where=f"{rows} rows", got=str(error)) from error

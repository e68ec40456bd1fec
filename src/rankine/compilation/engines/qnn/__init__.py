"""Qualcomm's HTP by way of ONNX Runtime's QNN provider: one context binary for each number of rows, written at build.

The host looks up, the HTP runs the dense graph, in fixed point throughout (:mod:`.fixed_point`): a form of its own, so
its scores need a quality certificate of their own. On x86-64 the library is Qualcomm's emulator of the chip: scores are
the chip's form, times say nothing. The emulator rounds as the chip's integer units do; that it agrees with a phone bit
by bit was not checked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_qnn as qnn

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.qnn.session import (
    DEVICE,
    LIBRARY_ERRORS,
    compile_context,
    is_emulated,
    load_context,
)
from rankine.compilation.host_runner import HostRunner
from rankine.compilation.lookup import open_lookup
from rankine.compilation.row_buckets import ROW_BUCKETS, BucketLane
from rankine.errors import ArtifactError, EngineError, EngineMissing

__all__ = ["Qnn", "engine"]

_BUCKETS_FILE = "row_buckets.json"


class Qnn:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="qnn",
            version=qnn.__version__,
            devices=(DEVICE,),
            numerics=("int8",),
            own_int8_form=True,
            static_buckets=True,
            compiles_for=(DEVICE,),
            on_request=True,
            stand_ins={DEVICE: "emulator"} if is_emulated() else {},
        )

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Write a context binary for each of the target's row buckets."""
        import onnx

        from rankine.compilation.engines.qnn.fixed_point import fixed_point, sums_as_means
        from rankine.compilation.engines.qnn.ranges import seen_ranges
        from rankine.compilation.pack_inputs import packed_graph

        if model.numeric != "int8":
            raise EngineError("runs INT8 only", where=f"qnn, {model.name}", got=model.numeric.upper(), allowed="INT8")
        if model.inputs:
            raise EngineError("runs whole graphs only, no parts of one", where=f"qnn, {model.name}")
        graph = sums_as_means(packed_graph(model))
        fixed = fixed_point(graph, seen_ranges(model, graph))
        buckets = sorted(set(target.row_buckets or ROW_BUCKETS))
        for rows in buckets:
            for value in (*fixed.graph.input, *fixed.graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = rows
            shaped = onnx.shape_inference.infer_shapes(fixed)
            compile_context(shaped.SerializeToString(), _path(folder, rows))
        (folder / _BUCKETS_FILE).write_text(json.dumps(buckets), encoding="utf-8")

    def open(self, model: Model, folder: Path, *, device: str = DEVICE, threads: int = 1) -> HostRunner:
        """Load the context binaries. ``threads`` is the HTP's own matter."""
        if device != DEVICE:
            raise EngineMissing("has no such device here", where="qnn", got=device, allowed=DEVICE)
        buckets = _row_buckets(folder)
        sessions = {rows: _Context(load_context(_path(folder, rows))) for rows in buckets}
        first, lookup = sessions[buckets[0]], open_lookup(model)
        arrays = lookup.arrays_of(first.inputs)
        runs = {rows: session.run for rows, session in sessions.items()}
        return HostRunner(lookup, first.tasks, lambda: BucketLane(runs, arrays))


def engine() -> Qnn:
    return Qnn()


class _Context:
    """One context binary on the device; calls of it wait for each other, as the device would let them."""

    def __init__(self, session: Any) -> None:
        self._session, self._lock = session, threading.Lock()
        self.inputs = tuple(value.name for value in session.get_inputs())
        shape = session.get_outputs()[0].shape
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise EngineError("the graph's output is not logits", got=str(shape), allowed="(rows, tasks)")
        self.tasks = int(shape[1])

    def run(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Logits, float32 ``(rows of the binary, tasks)``."""
        try:
            with self._lock:
                (logits,) = self._session.run(None, dict(zip(self.inputs, views, strict=True)))
        except LIBRARY_ERRORS as error:
            raise EngineError("QNN failed", got=" ".join(str(error).split())) from error
        return np.asarray(logits)


def _path(folder: Path, rows: int) -> Path:
    return folder / f"rows_{rows}.onnx"


def _row_buckets(folder: Path) -> list[int]:
    path = folder / _BUCKETS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not found or not all(type(rows) is int and rows > 0 for rows in found):
            raise ValueError(f"{_BUCKETS_FILE} is no list of numbers of rows")
        return found
    except (OSError, ValueError) as error:
        hint = "Run `rankine compile` again."
        raise ArtifactError("is no build of qnn", where=str(folder), got=str(error), hint=hint) from error

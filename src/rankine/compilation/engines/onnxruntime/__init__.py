"""ONNX Runtime: the graph bound to preallocated buffers, in the calling thread.

Binding costs 8 us a call where ``run(dict)`` costs 39. The canonical QDQ form is also ONNX Runtime's fastest: its
kernels take u8 activations, s8-symmetric ones are slower. A build is the graph alone, so that any device opens it; on a
GPU (:mod:`.providers`) each call copies its rows there and its logits back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.engines.onnxruntime.providers import (
    CPU,
    HINTS,
    LIBRARY_ERRORS,
    MOST_ROWS,
    check_device,
    devices,
    engine_cache,
    preload,
    session_providers,
)
from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, open_lookup
from rankine.environment import processor
from rankine.errors import EngineError

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxRuntime", "engine"]

_GRAPH_FILE = "graph.onnx"
_ERRORS_ONLY = 3
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


class OnnxRuntime:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        here = devices()
        others = {name: hint for name, hint in HINTS.items() if name not in here}
        return Capabilities(
            name="onnxruntime", version=ort.__version__, devices=here, compiles_for=(CPU, *HINTS), device_hints=others
        )

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Write the graph, rewritten exactly. It stays portable: ONNX Runtime's own optimizations depend on the
        processor and are made at :meth:`open`."""
        import onnx

        from rankine.compilation.pack_inputs import packed_graph

        graph = packed_graph(model)
        if model.numeric == "int8":
            _relu_as_max(graph)
        onnx.save(graph, str(folder / _GRAPH_FILE))
        _session(folder / _GRAPH_FILE, threads=1)  # a graph that it cannot run is refused here, not when serving

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> HostRunner:
        check_device(device, model.numeric)
        lookup = open_lookup(model)
        session = _session(folder / _GRAPH_FILE, threads, device)
        names = tuple(value.name for value in session.get_inputs())
        arrays = lookup.arrays_of(names)
        lane = partial(_Lane, session, names, arrays) if device == CPU else partial(CopyingLane, session, names, arrays)
        return HostRunner(lookup, _tasks(session), lane)


def engine() -> OnnxRuntime:
    return OnnxRuntime()


class _Lane:
    """One call's binding. Addresses are bound again only when the number of rows or the output array changes."""

    def __init__(self, session: Any, names: Sequence[str], arrays: Sequence[tuple[int, DType]]) -> None:
        self._session = session
        self._names = names
        self._buffers = InputBuffers(arrays)
        self._binding = session.io_binding()
        self._bound: tuple[np.ndarray, ...] = ()
        self._output = session.get_outputs()[0].name

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        views = self._buffers.views(rows)
        if views is not self._bound:
            for name, view in zip(self._names, views, strict=True):
                self._binding.bind_input(name, "cpu", 0, view.dtype.type, view.shape, view.ctypes.data)
            self._bound = views
        return views

    def execute(self, rows: int, out: np.ndarray) -> None:
        self._binding.bind_output(self._output, "cpu", 0, np.float32, out.shape, out.ctypes.data)
        try:
            self._session.run_with_iobinding(self._binding)
        except LIBRARY_ERRORS as error:
            raise EngineError("ONNX Runtime failed", got=str(error)) from error


class CopyingLane:
    """One call's binding on a GPU: inputs are copied there where they are bound, so they are bound for every call.

    Args:
        most_rows: a larger batch runs in parts, one after the other.
    """

    def __init__(
        self, session: Any, names: Sequence[str], arrays: Sequence[tuple[int, DType]], *, most_rows: int = MOST_ROWS
    ) -> None:
        self._session = session
        self._names = names
        self._buffers = InputBuffers(arrays)
        self._most_rows = most_rows
        self._output = session.get_outputs()[0].name

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        return self._buffers.views(rows)

    def execute(self, rows: int, out: np.ndarray) -> None:
        views = self._buffers.views(rows)
        for start in range(0, rows, self._most_rows):
            part = slice(start, min(start + self._most_rows, rows))
            self._run([view[part] for view in views], out[part])

    def _run(self, views: Sequence[np.ndarray], out: np.ndarray) -> None:
        binding = self._session.io_binding()
        try:
            for name, view in zip(self._names, views, strict=True):
                binding.bind_input(name, CPU, 0, view.dtype.type, view.shape, view.ctypes.data)
            binding.bind_output(self._output, CPU, 0, np.float32, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)
        except LIBRARY_ERRORS as error:
            raise EngineError("ONNX Runtime failed", got=str(error)) from error


def _relu_as_max(model: onnx.ModelProto) -> None:
    """Write ``max(x, 0)`` for every Relu that no quantization follows.

    ONNX Runtime (1.31) runs a quantized linear layer in FP32 where a Relu with a float result follows it: a quarter of
    a DCN-v2's time. It does not recognize the same function under this name.
    """
    from onnx import numpy_helper

    readers: defaultdict[str, set[str]] = defaultdict(set)
    for node in model.graph.node:
        for name in node.input:
            readers[name].add(node.op_type)
    zero = "rankine.zero"
    for node in model.graph.node:
        if node.op_type == "Relu" and "QuantizeLinear" not in readers[node.output[0]]:
            node.op_type = "Max"
            node.input.append(zero)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), zero))


def _session(path: Path, threads: int, device: str = CPU) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    # A spinning thread takes a core from the next request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory plans are kept per shape for good, and the number of rows is never the same; they were not faster either.
    options.enable_mem_pattern = False
    if not _DOT_PRODUCTS & set(processor(Path("/proc/cpuinfo"))[1]):
        # There the u8 x s8 kernels saturate in 16 bits: take the exact ones, which are slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    given = session_providers(device)
    if device != CPU:
        preload(device)
        cache = engine_cache()
        cache.mkdir(parents=True, exist_ok=True)
        inputs = [(value.name, int(value.shape[1])) for value in _session(path, threads).get_inputs()]
        given = session_providers(device, inputs, cache)
    try:
        return ort.InferenceSession(str(path), options, providers=given)
    except LIBRARY_ERRORS as error:
        raise EngineError("ONNX Runtime cannot load the graph", where=str(path), got=str(error)) from error


def _tasks(session: Any) -> int:
    shape = session.get_outputs()[0].shape
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise EngineError("the graph's output is not logits", got=str(shape), allowed="(rows, tasks)")
    return shape[1]

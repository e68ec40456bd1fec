"""OpenVINO on the CPU: an IR written at build, one stream in latency mode, preset tensors over preallocated buffers.

Preset tensors cost 17 us a call where ``infer(dict)`` costs 148. The canonical QDQ form runs as it is: a form of
OpenVINO's own (symmetric s8 activations, or NNCF's) was within 3 % of it at 512 rows on a DCN-v2, and would have
needed a quality certificate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, open_lookup
from rankine.errors import EngineError

__all__ = ["OpenVino", "engine", "padded_rows"]

_GRAPH_FILE = "graph.xml"


class OpenVino:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        return Capabilities(name="openvino", version=ov.__version__.split("-")[0])

    def build(self, model: Model, target: Target, folder: Path) -> None:
        import onnx

        from rankine.compilation.pack_inputs import packed_graph

        packed = folder / "packed.onnx"
        onnx.save(packed_graph(model), str(packed))
        try:
            ir = ov.Core().read_model(str(packed))
            _dynamic_rows(ir)
            ov.save_model(ir, str(folder / _GRAPH_FILE), compress_to_fp16=False)
        except RuntimeError as error:
            raise EngineError("OpenVINO cannot convert the graph", where=str(model.graph), got=str(error)) from error
        finally:
            packed.unlink()

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> HostRunner:
        path = folder / _GRAPH_FILE
        compiled = _compile(path, threads)
        lookup = open_lookup(model)
        arrays = lookup.arrays_of(tuple(port.any_name for port in compiled.inputs))
        spare = [compiled]

        def open_lane() -> _Lane:
            try:
                return _Lane(spare.pop(), arrays)
            except IndexError:
                return _Lane(_compile(path, threads), arrays)

        return HostRunner(lookup, _tasks(compiled), open_lane)


def engine() -> OpenVino:
    return OpenVino()


def padded_rows(rows: int) -> int:
    """``rows``, rounded up in steps of at most a sixteenth: few shapes, little waste.

    The first run of a shape prepares kernels for it (3 ms on a DCN-v2 whose run takes 1 ms) and keeps them, so a
    server that sees every number of rows would pay in its tail and in memory.
    """
    step = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // step) * step


class _Lane:
    """A compiled model of its own, with one request. Tensors are set again only when the padded rows change.

    Requests of one compiled model with one stream wait for each other (a call of one row took 50 ms beside calls of
    8,192 rows), and with more streams a call is handed to another thread, which cost 50 us and more.
    """

    def __init__(self, compiled: Any, arrays: Sequence[tuple[int, DType]]) -> None:
        self._request = compiled.create_infer_request()
        self._buffers = InputBuffers(arrays)
        self._bound: tuple[np.ndarray, ...] = ()

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        views = self._buffers.views(padded_rows(rows))
        if views is not self._bound:
            for position, view in enumerate(views):
                self._request.set_input_tensor(position, ov.Tensor(view, shared_memory=True))
            self._bound = views
        return tuple(view[:rows] for view in views)

    def execute(self, rows: int, out: np.ndarray) -> None:
        try:
            self._request.infer()
        except RuntimeError as error:
            raise EngineError("OpenVINO failed", got=str(error)) from error
        np.copyto(out, self._request.get_output_tensor(0).data[:rows])


def _dynamic_rows(ir: Any) -> None:
    """Leave the rows open and fix the widths: a graph may have come with a fixed batch."""
    ir.reshape({port: ov.PartialShape([ov.Dimension(-1), *list(port.partial_shape)[1:]]) for port in ir.inputs})


def _compile(path: Path, threads: int) -> Any:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # On processors with bfloat16 the default would leave FP32; quantized layers stay INT8 all the same.
        "INFERENCE_PRECISION_HINT": "f32",
        # Workers are placed by who starts them; a library that pins threads puts two runners on one core.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return ov.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise EngineError("OpenVINO cannot compile the graph", where=str(path), got=str(error)) from error


def _tasks(compiled: Any) -> int:
    shape = compiled.output(0).partial_shape
    if len(shape) != 2 or not shape[1].is_static:
        raise EngineError("the graph's output is not logits", got=str(shape), allowed="(rows, tasks)")
    return int(shape[1].get_length())

"""OpenVINO: an IR written at build, one stream in latency mode, preset tensors over preallocated buffers.

Preset tensors cost 17 us a call where ``infer(dict)`` costs 148. The canonical QDQ form runs as it is: a form of
OpenVINO's own (symmetric s8 activations, or NNCF's) was within 3 % of it at 512 rows on a DCN-v2, and would have
needed a quality certificate of its own.

A build is for all devices; what a device needs is made when it is opened. GPU and NPU are not verified on the chip:
what is checked without one are the options, the refusal, and on the CPU the fixed numbers of rows that an NPU needs.
For an NPU, and where a target names row buckets, the build holds an IR of static shapes for each. The wheel has no
compiler for NPUs: these are exported and run on the CPU, and compiled where the driver is. An NPU computes in FP16 what
is not INT8; a parity certificate on the machine tells whether its scores hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from rankine.compilation.engine import Capabilities, Model, Target
from rankine.compilation.host_runner import HostRunner, InputBuffers
from rankine.compilation.lookup import DType, open_lookup
from rankine.compilation.row_buckets import ROW_BUCKETS, BucketLane
from rankine.errors import EngineError, EngineMissing

__all__ = ["OpenVino", "device_settings", "devices", "engine", "padded_rows"]

_GRAPH_FILE, _BUCKETS_FILE = "graph.xml", "row_buckets.json"
_HINTS: Mapping[str, str] = {
    "gpu": "Needs an Intel GPU and its driver: apt-get install intel-opencl-icd ocl-icd-libopencl1.",
    "npu": "Needs an Intel NPU, its kernel driver and user mode driver (github.com/intel/linux-npu-driver).",
}


class OpenVino:
    """The engine; see :class:`rankine.compilation.engine.Engine`."""

    def capabilities(self) -> Capabilities:
        here = devices()
        others = {name: hint for name, hint in _HINTS.items() if not any(one.startswith(name) for one in here)}
        return Capabilities(
            name="openvino",
            version=ov.__version__.split("-")[0],
            devices=here,
            compiles_for=("cpu", *_HINTS),
            only_exported=("npu",) if "npu" in others else (),
            stand_ins={"npu": "cpu"} if "npu" in others else {},
            device_hints=others,
        )

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
        buckets = sorted(set(target.row_buckets or (ROW_BUCKETS if target.device.startswith("npu") else ())))
        if buckets:
            for rows in buckets:
                ov.save_model(_fixed(ir, rows), str(folder / _fixed_file(rows)), compress_to_fp16=False)
            (folder / _BUCKETS_FILE).write_text(json.dumps(buckets), encoding="utf-8")

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> HostRunner:
        if device not in (here := devices()):
            hint = _HINTS.get(device.split(".")[0])
            raise EngineMissing(
                "has no such device here", where="openvino", got=device, allowed=", ".join(here), hint=hint
            )
        path, lookup = folder / _GRAPH_FILE, open_lookup(model)
        compile_rows = partial(_compile, path, device, threads)
        exported = _row_buckets(folder)
        buckets = exported or (ROW_BUCKETS if device.startswith("npu") else ())
        if buckets:
            fixed = {
                rows: _compile(folder / _fixed_file(rows), device, threads) if exported else compile_rows(rows)
                for rows in buckets
            }
            first = fixed[buckets[0]]
            arrays = lookup.arrays_of(tuple(port.any_name for port in first.inputs))

            def open_fixed() -> BucketLane:
                return BucketLane({rows: _FixedRequest(one).run for rows, one in fixed.items()}, arrays)

            return HostRunner(lookup, _tasks(first), open_fixed)
        compiled = compile_rows()
        arrays = lookup.arrays_of(tuple(port.any_name for port in compiled.inputs))
        spare = [compiled]

        def open_lane() -> _Lane:
            try:
                return _Lane(spare.pop(), arrays)
            except IndexError:
                return _Lane(compile_rows(), arrays)

        return HostRunner(lookup, _tasks(compiled), open_lane)


def engine() -> OpenVino:
    return OpenVino()


@cache
def devices() -> tuple[str, ...]:
    """OpenVINO's devices here, in lower case, and ``auto``, which chooses among them."""
    return (*(name.lower() for name in ov.Core().available_devices), "auto")


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


class _FixedRequest:
    """A request of a compiled model of a fixed number of rows, which other lanes share: their requests wait for it."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def run(self, views: Sequence[np.ndarray]) -> np.ndarray:
        """Logits, float32 ``(rows of the model, tasks)``, until the next call."""
        try:
            for position, view in enumerate(views):
                self._request.set_input_tensor(position, ov.Tensor(view, shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise EngineError("OpenVINO failed", got=str(error)) from error
        return np.asarray(self._request.get_output_tensor(0).data)


def _row_buckets(folder: Path) -> tuple[int, ...]:
    path = folder / _BUCKETS_FILE
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def _fixed_file(rows: int) -> str:
    return f"rows_{rows}.xml"


def _fixed(ir: Any, rows: int) -> Any:
    """The graph with a fixed number of rows: every shape in it is static, as an NPU's compiler wants it."""
    fixed = ir.clone()
    fixed.reshape({port: ov.PartialShape([rows, *list(port.partial_shape)[1:]]) for port in fixed.inputs})
    return fixed


def _dynamic_rows(ir: Any) -> None:
    """Leave the rows open and fix the widths: a graph may have come with a fixed batch."""
    ir.reshape({port: ov.PartialShape([ov.Dimension(-1), *list(port.partial_shape)[1:]]) for port in ir.inputs})


def device_settings(device: str, threads: int) -> dict[str, Any]:
    """Options of a compiled model: every device answers one call as soon as it can, and in FP32 where it has it."""
    latency = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith("npu"):
        return latency
    # On processors with bfloat16, and on GPUs, the default would leave FP32; quantized layers stay INT8 all the same.
    exact = {**latency, "INFERENCE_PRECISION_HINT": "f32"}
    # Workers are placed by who starts them; a library that pins threads puts two runners on one core.
    cpu = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if device == "auto":
        return {**exact, "DEVICE_PROPERTIES": {"CPU": cpu}}
    return {**exact, **cpu} if device == "cpu" else exact


def _compile(path: Path, device: str, threads: int, rows: int | None = None) -> Any:
    """The graph on a device, its rows open, or fixed."""
    core = ov.Core()
    try:
        graph = str(path) if rows is None else _fixed(core.read_model(str(path)), rows)
        return core.compile_model(graph, device.upper(), device_settings(device, threads))
    except RuntimeError as error:
        raise EngineError("OpenVINO cannot compile the graph", where=f"{path} on {device}", got=str(error)) from error


def _tasks(compiled: Any) -> int:
    shape = compiled.output(0).partial_shape
    if len(shape) != 2 or not shape[1].is_static:
        raise EngineError("the graph's output is not logits", got=str(shape), allowed="(rows, tasks)")
    return int(shape[1].get_length())

"""ONNX Runtime's execution providers as devices: which work here, and the options of each.

Not verified on a GPU: what is checked without one is that a device is refused where its provider is not there or does
not come up, and the options. A parity certificate on the machine itself tells whether its scores hold.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as states

from rankine.errors import EngineError, EngineMissing
from rankine.models.variant import Numeric

__all__ = [
    "CPU",
    "HINTS",
    "LIBRARY_ERRORS",
    "MOST_ROWS",
    "check_device",
    "devices",
    "engine_cache",
    "preload",
    "session_providers",
]

CPU = "cpu"
MOST_ROWS = 4096
"""TensorRT's engines are made for up to so many rows; a larger batch runs in parts."""
_USUAL_ROWS = 512
_PROVIDERS: Mapping[str, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_GPU_PACKAGE = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
HINTS: Mapping[str, str] = {"cuda": _GPU_PACKAGE, "tensorrt": f"{_GPU_PACKAGE} tensorrt"}
"""What installs a device's provider: both packages of ONNX Runtime hold the same module, so one has to go."""
# A model of one Identity, float32 (1,), as `onnx.helper` writes it: serving has no onnx.
_PROBE = bytes.fromhex(
    "080a3a3b0a100a017812017922084964656e74697479120570726f62655a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001015"
)
# What the library raises: some twenty classes without a common base.
LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


@cache
def devices() -> tuple[str, ...]:
    """Those whose provider is there and comes up: one whose CUDA libraries are missing would fall back to the CPU."""
    there = set(ort.get_available_providers())
    return (CPU, *(device for device, provider in _PROVIDERS.items() if provider in there and _comes_up(device)))


def check_device(device: str, numeric: Numeric) -> None:
    """Refuse a device that does not work here, or a form that it does not run.

    Raises:
        EngineMissing: there is no such device here; tells the line that installs it.
        EngineError: INT8 on TensorRT, which takes no zero points.
    """
    if device not in devices():
        raise EngineMissing(
            "has no such device here",
            where="onnxruntime",
            got=device,
            allowed=", ".join(devices()),
            hint=HINTS.get(device, "`rankine doctor` shows what is there."),
        )
    if device == "tensorrt" and numeric == "int8":
        raise EngineError(
            "TensorRT runs INT8 with zero points of zero only, which the canonical form has not",
            where="onnxruntime",
            got="an INT8 variant",
            hint="Serve an FP32 variant on tensorrt, or this one on cuda or cpu.",
        )


def preload(device: str) -> None:
    """Load the CUDA libraries that pip installed, before a provider looks for them."""
    if device != CPU and hasattr(ort, "preload_dlls"):
        with redirect_stdout(io.StringIO()):  # it prints what it does not find, which may lie elsewhere
            ort.preload_dlls()


def session_providers(device: str, inputs: Sequence[tuple[str, int]] = (), cache_folder: Path = Path()) -> list[Any]:
    """What a session on ``device`` is given, the CPU last: it runs what a GPU's provider does not know.

    Args:
        inputs: name and width of each.
        cache_folder: where TensorRT keeps the engines that it makes, minutes of work, for the next start.
    """
    given: list[Any] = ["CPUExecutionProvider"]
    if device == CPU:
        return given
    # TensorFloat-32 would round what FP32 equality is judged on.
    given.insert(0, (_PROVIDERS["cuda"], {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}))
    if device == "tensorrt":
        shapes = {
            f"trt_profile_{which}_shapes": ",".join(f"{name}:{rows}x{width}" for name, width in inputs)
            for which, rows in (("min", 1), ("opt", _USUAL_ROWS), ("max", MOST_ROWS))
        }
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_folder)}
        timed = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache_folder)}
        given.insert(0, (_PROVIDERS["tensorrt"], {**kept, **timed, **shapes}))
    return given


def engine_cache() -> Path:
    """``$RANKINE_CACHE/tensorrt``, else ``rankine/tensorrt`` in the user's cache: an artifact is never written to, and
    TensorRT names its files by graph, version and GPU."""
    if chosen := os.environ.get("RANKINE_CACHE"):
        return Path(chosen) / "tensorrt"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "rankine" / "tensorrt"


def _comes_up(device: str) -> bool:
    preload(device)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it falls back is what is asked here
        try:
            session = ort.InferenceSession(_PROBE, options, providers=[_PROVIDERS[device]])
        except LIBRARY_ERRORS:
            return False
    return _PROVIDERS[device] in session.get_providers()

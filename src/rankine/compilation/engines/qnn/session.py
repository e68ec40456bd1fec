"""Sessions on Qualcomm's HTP: a graph of fixed shape compiled to a context binary, and that binary loaded.

What the HTP has not is refused: ONNX Runtime would else run it on the CPU without a word.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort
import onnxruntime_qnn as qnn
from onnxruntime.capi import onnxruntime_pybind11_state as states

from rankine.errors import EngineError, EngineMissing

__all__ = ["DEVICE", "LIBRARY_ERRORS", "compile_context", "is_emulated", "load_context"]

DEVICE = "htp"
_PROVIDER = "QNNExecutionProvider"
_NO_LOG = 4
_GREETING, _GREETED = threading.Lock(), threading.Event()
_HINT = "pip install 'rankine[qnn]'"
# What the library raises: some twenty classes without a common base.
LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


def is_emulated() -> bool:
    """Whether Qualcomm's emulator computes in the chip's place: its library for x86-64 is nothing else."""
    return platform.machine().lower() in ("x86_64", "amd64")


def compile_context(graph: bytes, path: Path) -> None:
    """Compile a graph of fixed shape for the HTP: ``path`` holds its inputs and outputs, a binary beside it the rest.

    Raises:
        EngineError: the HTP does not run all of it.
        EngineMissing: the HTP's libraries are not here.
    """
    options = _options()
    options.add_session_config_entry("ep.context_enable", "1")
    options.add_session_config_entry("ep.context_file_path", str(path))
    options.add_session_config_entry("ep.context_embed_mode", "0")
    try:
        _session(graph, options)
    except LIBRARY_ERRORS as error:
        for part in (path, *path.parent.glob(f"{path.stem}_*")):  # it may have written what it could run
            part.unlink(missing_ok=True)
        raise EngineError(
            "HTP does not run the whole graph, and nothing is left to the CPU",
            where=str(path.stem),
            got=" ".join(str(error).split()),
            hint="Compile this variant for another engine.",
        ) from error
    if not path.exists():
        raise EngineError("the HTP's compiler wrote no context binary", where=str(path))


def load_context(path: Path) -> Any:
    """A session on what :func:`compile_context` wrote; nothing is compiled.

    Raises:
        EngineError: it is damaged, or of another version of the libraries.
        EngineMissing: the HTP's libraries are not here.
    """
    try:
        return _session(str(path), _options())
    except LIBRARY_ERRORS as error:
        raise EngineError(
            "cannot load the context binary",
            where=str(path),
            got=" ".join(str(error).split()),
            hint=f"It was made by another version, or is damaged: run `rankine compile` again with {qnn.__version__}.",
        ) from error


def _session(graph: str | bytes, options: Any) -> Any:
    """A session. When the first one of a process is made, the emulator's library greets on standard output, where the
    result of a command belongs: nobody reads that."""
    with _GREETING:
        if _GREETED.is_set() or os.name != "posix" or sys.stdout is None or not is_emulated():
            return ort.InferenceSession(graph, options)
        with _mute_standard_output():
            made = ort.InferenceSession(graph, options)
        _GREETED.set()
        return made


@contextmanager
def _mute_standard_output() -> Iterator[None]:
    """Of the whole process, C libraries included."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _options() -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _NO_LOG  # what it says is in the error that it raises
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # Rounding what goes in and out would else be the CPU's.
    backend = {"backend_path": qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0"}
    options.add_provider_for_devices([_device()], backend)
    return options


@cache
def _device() -> Any:
    """The provider's device; its library is registered once a process."""
    missing = [path for path in (qnn.get_library_path(), qnn.get_qnn_htp_path()) if not Path(path).exists()]
    if missing:
        raise EngineMissing("a library of QNN is missing", where="qnn", got=", ".join(missing), hint=_HINT)
    if not (found := _registered()):
        try:
            ort.register_execution_provider_library(_PROVIDER, qnn.get_library_path())
        except LIBRARY_ERRORS as error:
            raise EngineMissing("the library of QNN does not load", where="qnn", got=str(error), hint=_HINT) from error
        found = _registered()
    if not found:
        raise EngineMissing("QNN finds no device here", where="qnn", hint=_HINT)
    npu = ort.OrtHardwareDeviceType.NPU
    return next((one for one in found if one.device.type == npu), found[0])


def _registered() -> list[Any]:
    return [one for one in ort.get_ep_devices() if one.ep_name == _PROVIDER]

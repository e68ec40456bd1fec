"""A compiled graph, called by its C interface, which is all that PyTorch's loader calls too.

That loader's Python binding holds the GIL during a call (torch 2.13); ``ctypes`` releases it. The interface is the one
that AOTInductor keeps stable (``aoti_runtime/interface.h``, ``aoti_torch/c/shim.h``).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from rankine.errors import EngineError

__all__ = ["Container", "Inputs", "Library"]

_CREATE = "AOTInductorModelContainerCreateWithDevice"
_DELETE = "AOTInductorModelContainerDelete"
_RUN = "AOTInductorModelContainerRunSingleThreaded"


class Library:
    """The shared library at ``path``; PyTorch is loaded already.

    Raises:
        EngineError: it does not load.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library = library = ctypes.CDLL(str(path))
        except OSError as error:
            hint = "Run `rankine compile` with --engine inductor again, on this machine."
            raise EngineError("the compiled graph does not load", where=str(path), got=str(error), hint=hint) from error
        library.AOTInductorGetLastError.restype = c_char_p
        getattr(library, _CREATE).argtypes = [POINTER(c_void_p), c_size_t, c_char_p, c_char_p]
        getattr(library, _DELETE).argtypes = [c_void_p]
        getattr(library, _RUN).argtypes = [
            c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_void_p), c_size_t, c_void_p, c_void_p,
        ]  # fmt: skip
        library.aoti_torch_create_tensor_from_blob.argtypes = [
            c_void_p, c_int64, POINTER(c_int64), POINTER(c_int64),
            c_int64, c_int32, c_int32, c_int32, POINTER(c_void_p),
        ]  # fmt: skip
        library.aoti_torch_get_data_ptr.argtypes = [c_void_p, POINTER(c_void_p)]
        library.aoti_torch_delete_tensor_object.argtypes = [c_void_p]
        self._dtypes = {
            np.dtype(np.float32): library.aoti_torch_dtype_float32(),
            np.dtype(np.uint8): library.aoti_torch_dtype_uint8(),
        }
        self._cpu = library.aoti_torch_device_type_cpu()

    def create(self) -> c_void_p:
        """A container of one instance of the graph."""
        container = c_void_p()
        self.check(getattr(self._library, _CREATE)(byref(container), 1, b"cpu", None))
        return container

    def delete(self, container: c_void_p) -> None:
        """Free a container."""
        getattr(self._library, _DELETE)(container)

    def tensor(self, array: np.ndarray, shape: ctypes.Array[c_int64], strides: ctypes.Array[c_int64]) -> c_void_p:
        """A tensor over the memory of a contiguous array."""
        found = c_void_p()
        kind = self._dtypes[array.dtype]
        self.check(
            self._library.aoti_torch_create_tensor_from_blob(
                array.ctypes.data, len(shape), shape, strides, 0, kind, self._cpu, -1, byref(found)
            )
        )
        return found

    def run(self, container: c_void_p, tensors: ctypes.Array[c_void_p], out: np.ndarray) -> None:
        """Run the graph on tensors, which it takes, and copy its result to ``out``, contiguous float32."""
        result, data = c_void_p(), c_void_p()
        self.check(getattr(self._library, _RUN)(container, tensors, len(tensors), byref(result), 1, None, None))
        try:
            self.check(self._library.aoti_torch_get_data_ptr(result, byref(data)))
            ctypes.memmove(out.ctypes.data, data, out.nbytes)
        finally:
            self._library.aoti_torch_delete_tensor_object(result)

    def check(self, status: int) -> None:
        """Raise what a call left as its error."""
        if status:
            text = self._library.AOTInductorGetLastError() or b""
            raise EngineError("the compiled graph failed", where="inductor", got=text.decode(errors="replace"))


class Inputs:
    """Arrays as a call reads them: sizes and strides are written once."""

    def __init__(self, library: Library, arrays: Sequence[np.ndarray]) -> None:
        self._library = library
        self._arrays = [(array, _longs(array.shape), _longs((array.shape[1], 1))) for array in arrays]

    def tensors(self) -> ctypes.Array[c_void_p]:
        """New tensors over the arrays, for one call."""
        return (c_void_p * len(self._arrays))(*(self._library.tensor(*array) for array in self._arrays))


class Container:
    """An instance of the graph, for one call at a time; freed when nothing refers to it any more."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._handle = library.create()
        weakref.finalize(self, library.delete, self._handle)

    def run(self, inputs: Inputs, out: np.ndarray) -> None:
        """Run on ``inputs`` and write to ``out``, contiguous float32 ``(rows, tasks)``."""
        self._library.run(self._handle, inputs.tensors(), out)


def _longs(values: Sequence[int]) -> ctypes.Array[c_int64]:
    return (c_int64 * len(values))(*values)

"""Tensors of Triton's python backend, to the protocol's and back.

A backend that was built for NumPy 1 (that of Triton 2.51, for one) makes arrays whose strides NumPy 2 takes for zero.
So with NumPy 2 numbers go over DLPack, both ways; for strings there is no such way: they are refused where they would
be garbled. With NumPy 1 all goes as arrays: there it is DLPack that does not work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rankine.errors import EngineError
from rankine.serving.protocols.oip_tensors import InputTensor, TensorReader

__all__ = ["drop_renamed_capsules", "read_tensor", "refuse_strings", "tensor_of"]

_RENAMED = "PyCapsule_GetPointer called with incorrect name"
_OVER_DLPACK = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def read_tensor(reader: TensorReader, tensor: Any, datatype: str) -> None:
    """Take an input of a request into ``reader``; its values are copied, as they are gone with the request.

    Args:
        datatype: by the model's configuration, which Triton holds requests to.

    Raises:
        BadRequest, PayloadTooLarge: as the reader says.
    """
    name = tensor.name()
    if datatype == "BYTES":
        texts = tensor.as_numpy()
        reader.add_values(InputTensor(name, list(texts.shape), datatype), texts.reshape(-1).tolist())
        return
    values = np.from_dlpack(tensor) if _OVER_DLPACK else tensor.as_numpy()
    reader.add_array(InputTensor(name, list(values.shape), datatype), values.copy())


def tensor_of(backend: Any, name: str, datatype: str, values: np.ndarray | Sequence[str]) -> Any:
    """An output of a reply.

    Args:
        backend: the module ``triton_python_backend_utils``.
    """
    if datatype == "BYTES":
        return backend.Tensor(name, np.array([value.encode() for value in values], np.object_))
    numbers = np.require(values, requirements=["C", "W"])  # what is read-only has no DLPack
    return backend.Tensor.from_dlpack(name, numbers) if _OVER_DLPACK else backend.Tensor(name, numbers)


def drop_renamed_capsules(unraisable: sys.UnraisableHookArgs) -> None:
    """A ``sys.unraisablehook`` without what NumPy complains of once an output: that the backend renames capsules to a
    name that it does not know. That it has taken them is all that matters, and writing the complaint down would cost
    more than the output.
    """
    if not (unraisable.exc_type is ValueError and str(unraisable.exc_value) == _RENAMED):
        sys.__unraisablehook__(unraisable)


def refuse_strings(backend: Any) -> None:
    """Where strings of requests and replies would be garbled on their way.

    Raises:
        EngineError: says what to install.
    """
    told = np.array([1.0, 2.0], np.float32)
    if _OVER_DLPACK and backend.Tensor.from_dlpack("probe", told).as_numpy().tolist() != told.tolist():
        raise EngineError(
            "this Triton's python backend was built for NumPy 1 and garbles strings, which the model's features or "
            "item ids are",
            got=f"NumPy {np.__version__}",
            hint="Install 'numpy<2' for Triton's Python, or take a Triton whose python backend knows NumPy 2.",
        )

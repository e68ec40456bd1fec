"""TVM, imported quietly: left alone, its import compiles an extension of PyTorch and takes over how Python ends.

Imported only where something is built: what is built runs without TVM.
"""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["tirx", "tvm"]

_EXTENSION = "TVM_FFI_DISABLE_TORCH_C_DLPACK"
"""Without it, tvm-ffi compiles an exchange of tensors with PyTorch, for a minute, into the user's home folder."""


def _imported() -> tuple[Any, Any]:
    hook, before = sys.excepthook, os.environ.get(_EXTENSION)
    os.environ[_EXTENSION] = "1"
    try:
        import tvm
        from tvm import tirx
    finally:
        sys.excepthook = hook  # TVM's would end the process's children
        if before is None:
            del os.environ[_EXTENSION]
        else:
            os.environ[_EXTENSION] = before
    return tvm, tirx


tvm, tirx = _imported()

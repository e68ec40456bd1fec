"""What is raised where a model from elsewhere cannot be taken in, and the line of the user's code that it is about."""

from __future__ import annotations

import linecache
import sysconfig
from pathlib import Path
from types import TracebackType

import rankine
from rankine.errors import UsageError

__all__ = ["ModelError", "first_line", "user_line"]

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib"))
_NOT_THE_USERS = (Path(sysconfig.get_path("stdlib")).resolve(), Path(rankine.__file__).resolve().parent)
_MACHINERY = ("functorch", "mpmath", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "sympy", "torch")
"""Installed packages that run and export models, as against those that a model is made of."""


class ModelError(UsageError):
    """A model cannot be read, traced or exported, or is not what the schema says."""

    code = "model"


def user_line(traceback: TracebackType | None) -> str | None:
    """The innermost line of the model's code in a traceback, as ``file.py:12: code``; None where there is none.

    That is the user's own code, or else that of the installed library that the model is from, with its path in there.
    """
    found: dict[bool, str] = {}
    while traceback is not None:
        path, number = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        installed = _in_library(path)
        if installed is not None or _is_users(path):
            line = linecache.getline(path, number).strip()
            found[installed is None] = f"{installed or Path(path).name}:{number}: {line}".rstrip(": ")
        traceback = traceback.tb_next
    return found.get(True, found.get(False))


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, with its class where it is Python's own."""
    lines = (line.strip() for line in str(error).splitlines())
    text = next((line for line in lines if line), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_users(path: str) -> bool:
    if path.startswith("<"):  # generated code
        return False
    resolved = Path(path).resolve()
    return not any(resolved.is_relative_to(root) for root in (*_NOT_THE_USERS, *_INSTALLED))


def _in_library(path: str) -> str | None:
    """The path in the installed packages, where it is of one that models are made of."""
    resolved = Path(path).resolve()
    for root in _INSTALLED:
        if resolved.is_relative_to(root):
            within = resolved.relative_to(root)
            return None if within.parts[0] in _MACHINERY else within.as_posix()
    return None

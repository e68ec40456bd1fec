"""What is raised where a model from elsewhere cannot be taken in, and the line of the user's code that it is about."""

from __future__ import annotations

import linecache
import sysconfig
from pathlib import Path
from types import TracebackType

import rankine
from rankine.errors import UsageError

__all__ = ["ModelError", "first_line", "user_line"]

_NOT_THE_USERS = (
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
    Path(rankine.__file__).resolve().parent,
)


class ModelError(UsageError):
    """A model cannot be read, traced or exported, or is not what the schema says."""

    code = "model"


def user_line(traceback: TracebackType | None) -> str | None:
    """The innermost line of the user's own code in a traceback, as ``file.py:12: code``; None where there is none."""
    found = None
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if _is_users(path):
            line = linecache.getline(path, traceback.tb_lineno).strip()
            found = f"{Path(path).name}:{traceback.tb_lineno}: {line}".rstrip(": ")
        traceback = traceback.tb_next
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, with its class where it is Python's own."""
    lines = (line.strip() for line in str(error).splitlines())
    text = next((line for line in lines if line), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_users(path: str) -> bool:
    if path.startswith("<"):  # generated code
        return False
    resolved = Path(path).resolve()
    return not any(resolved.is_relative_to(root) for root in _NOT_THE_USERS)

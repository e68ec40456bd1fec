"""The wall clock of a server, faked and set by what the tests have for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rankine.errors import EngineError

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from e2e.clock import fake_clock, faketime_library, set_clock

NAME = "clock"
"""Of the file, in the folder of the server's log, that tells what time it is."""


def faked(folder: Path) -> Mapping[str, str]:
    """Environment of a server whose clock :func:`set_ahead` sets.

    Raises:
        EngineError: libfaketime is not installed.
    """
    library = faketime_library()
    if library is None:
        raise EngineError("libfaketime is not installed", hint="pip install libfaketime")
    return fake_clock(library, folder / NAME)


def set_ahead(folder: Path, ahead_s: int) -> None:
    """Let it be so many seconds ahead; behind, if negative."""
    set_clock(folder / NAME, ahead_s)

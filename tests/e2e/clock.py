"""The wall clock of a process as a test wants it, by libfaketime; its monotonic clock is left alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

__all__ = ["fake_clock", "faketime_library", "set_clock"]

_IN_WHEEL = "vendor/libfaketime/src/libfaketime.so.1"
_IN_DEBIAN = "*/faketime/libfaketime.so.1"


def faketime_library() -> Path | None:
    """Of the PyPI package ``libfaketime`` or the Debian package of that name; None where there is neither."""
    found = importlib.util.find_spec("libfaketime")
    places = [Path(found.origin).parent / _IN_WHEEL] if found is not None and found.origin else []
    return next((path for path in (*places, *Path("/usr/lib").glob(_IN_DEBIAN)) if path.exists()), None)


def fake_clock(library: Path, told: Path) -> Mapping[str, str]:
    """Environment of a process whose wall clock is what :func:`set_clock` last wrote into ``told``."""
    set_clock(told, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(told),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # as it is called in older versions
        # Or waits of threads that count in monotonic time, such as those for Python's lock, would take far too long.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def set_clock(told: Path, ahead_s: int) -> None:
    """Let the wall clock of processes that read ``told`` be so many seconds ahead (behind, if negative)."""
    told.with_suffix(".new").write_text(f"{ahead_s:+d}\n", encoding="ascii")
    told.with_suffix(".new").replace(told)

"""Engines that may be missing: a test that needs one is skipped without it, and fails in CI."""

from __future__ import annotations

from conftest import end_without
from rankine.compilation.engine import Engine
from rankine.compilation.engines import load_engine
from rankine.errors import EngineMissing


def installed_engine(name: str) -> Engine:
    """The engine ``name``; where it is not installed, the end of the test."""
    try:
        return load_engine(name)
    except EngineMissing as error:
        end_without(str(error))

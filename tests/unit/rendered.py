"""The scripts of ``benchmarks/`` that render pages, imported one at a time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["ROOT", "renderer"]

ROOT = Path(__file__).resolve().parents[2]


def renderer(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """For a fixture: a module of ``benchmarks/``, which is forgotten after the test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module(name)
    sys.modules.pop(name)

"""What several unit tests need that are about the same thing outside of the package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from unit.rendered import ROOT


class Harness:
    """The modules of `benchmarks/serving`, by name."""

    def __getattr__(self, name: str) -> ModuleType:
        return importlib.import_module(f"serving.{name}")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield Harness()
    for name in [name for name in sys.modules if name == "serving" or name.startswith("serving.")]:
        sys.modules.pop(name)

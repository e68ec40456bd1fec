"""What importing rankine costs and offers, each looked at in a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import rankine

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "pyarrow", "sklearn", "matplotlib", "pandas")

# Prints the heavy libraries that are loaded after the imports given as arguments.
PROBE = f"""
import importlib, logging, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(" ".join(name for name in {HEAVY!r} if name in sys.modules), len(logging.getLogger().handlers), sep="|")
"""


def loaded_after(*modules: str) -> tuple[list[str], int]:
    """Heavy libraries loaded, and handlers of the root logger, after importing ``modules``."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *modules], capture_output=True, text=True, check=True, timeout=120
    )
    heavy, handlers = done.stdout.strip().split("|")
    return heavy.split(), int(handlers)


def test_import_loads_nothing_heavy_when_only_rankine_is_imported() -> None:
    assert loaded_after("rankine") == ([], 0)


def test_import_loads_nothing_heavy_when_base_modules_are_imported() -> None:
    base = ("config", "errors", "events", "registry", "_native")
    assert loaded_after(*(f"rankine.{name}" for name in base)) == ([], 0)


def test_probe_reports_library_when_it_is_loaded() -> None:
    assert loaded_after("onnxruntime")[0] == ["onnxruntime"]


def test_version_equals_metadata_when_installed() -> None:
    assert rankine.__version__ == metadata.version("rankine")
    assert re.fullmatch(r"\d+\.\d+\.\d+", rankine.__version__)

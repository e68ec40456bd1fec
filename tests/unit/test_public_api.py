"""What importing rankine costs and offers, each looked at in a fresh interpreter."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module, metadata

import pytest

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


# The public verbs, one a stage, with their parameters; those after "*" are given by keyword. A change here is a change
# for users: it belongs into CHANGELOG.md.
SIGNATURES = {
    "rankine.data:load_dataset": "source, *, schema, rows, seed",
    "rankine.training.train:train": "dataset, model_config, config, *, out, name, emit",
    "rankine.training.load:load": "model, schema, dataset, *, out, name, emit",
    "rankine.compression.compress:compress": "parent, recipe, dataset, *, out, cost, emit",
    "rankine.compilation.compile:compile_artifact": "parent, *, engines, split, verify_batch, out, emit",
    "rankine.compilation.compile:open_runner": "artifact, variant, engine, *, device, threads, split, options",
    "rankine.catalog:write_catalog": "path, schema, item_ids, columns",
    "rankine.certification.certify:certify": "parent, dataset, *, margin, sequence, settings, out, emit",
    "rankine.planning.optimize:optimize": "parent, recipes, dataset, *, margin, out, engines, cost, emit",
    "rankine.planning.search:optimize_by_search": (
        "parent, dataset, plan, latency, *, out, baseline_512_ms, engines, emit"
    ),
    "rankine.serving:serve": "config, emit",
    "rankine.observation.load:run_load": "config, emit",
    "rankine.observation.load:sweep": "config, emit, *, target",
    "rankine.observation.engines:bench_engines": "artifact, batches, *, pairs, rows, threads, repeats, emit",
    "rankine.observation.report:render_report": "result, out",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_the_published_one_when_verbs_are_public(name: str) -> None:
    module, verb = name.split(":")
    parameters = list(inspect.signature(getattr(import_module(module), verb)).parameters.values())
    shown = [parameter.name for parameter in parameters]
    keywords = [at for at, parameter in enumerate(parameters) if parameter.kind is parameter.KEYWORD_ONLY]
    if keywords:
        shown.insert(keywords[0], "*")
    assert ", ".join(shown) == SIGNATURES[name]

"""What all tests share: where the real data sets lie, whose absence is never silent in CI, and a state of their own."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Kernels of Triton-lang run in its interpreter where no GPU is; it is chosen before the library is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def is_ci() -> bool:
    """Whether this run is continuous integration, where nothing that a test needs may be missing."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def end_without(reason: str) -> NoReturn:
    """The end of a test, or of a module of tests, that lacks what ``reason`` says: skipped, and failed in CI."""
    if is_ci():
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def pytest_sessionstart() -> None:
    """Imports make garbage of little else than themselves: the collector only costs time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where tests, and the processes that they start, count uses of test splits: not in the user's own ledger."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANKINE_STATE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets: ``$RANKINE_DATA``, else ``../shared/data`` beside the project.

    Where it is absent, tests that need it are skipped and say so; with ``CI=true`` they fail.
    """
    path = Path(os.environ.get("RANKINE_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        end_without(f"no data sets at {path}: set RANKINE_DATA to their folder")
    return path

"""The benchmark that interrupts a search, with a small process in place of the search."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from unit.rendered import renderer

SEARCH = """
import os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)
out, folder, count = Path(sys.argv[1]), Path(sys.argv[1] + ".search") / "evaluations", int(sys.argv[2])
is_first_start = not folder.exists()
folder.mkdir(parents=True, exist_ok=True)
(folder.parent / "process").write_text(str(os.getpid()))
try:
    for number in range(count):
        if not (folder / f"{number}.json").exists():
            time.sleep(0.005)
            (folder / f"{number}.json").touch()
        if number == 20 and is_first_start:
            time.sleep(60)  # for Ctrl-C
except KeyboardInterrupt:
    print(f"interrupted, see {out}", file=sys.stderr)
    sys.exit(130)
out.mkdir()
"""


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("search_process", monkeypatch)


def command(work: Path, name: str, count: int = 30, then: str = "") -> list[str]:
    return [sys.executable, "-c", SEARCH + then, str(work / name), str(count)]


def test_search_goes_on_where_it_was_when_it_was_interrupted(process: ModuleType, tmp_path: Path) -> None:
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    found = process.interruption(tmp_path, "first")
    assert (found.exit_status, found.said) == (130, "interrupted, see WORK/first")
    assert process.INTERRUPT_AFTER <= found.kept == found.untouched < 30
    assert len(process.evaluations(tmp_path, "first")) == 30
    assert process.seconds(tmp_path, "first") > 30 * 0.005  # of both starts


def test_evaluations_count_as_done_again_when_the_second_start_writes_them(process: ModuleType, tmp_path: Path) -> None:
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    kept = process.interruption(tmp_path, "first").kept
    (tmp_path / "first.interruption.json").unlink()
    os.utime(tmp_path / "first.search" / "evaluations" / "0.json")
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    assert process.interruption(tmp_path, "first").untouched == kept - 1


def test_interruption_is_told_when_the_last_start_ended_before_it_was(process: ModuleType, tmp_path: Path) -> None:
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    told = process.interruption(tmp_path, "first")
    (tmp_path / "first.interruption.json").unlink()
    process.interrupted_search(["false"], tmp_path, "first")
    assert process.interruption(tmp_path, "first") == told


def test_seconds_and_interruption_stay_when_only_the_artifact_is_made_again(
    process: ModuleType, tmp_path: Path
) -> None:
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    told, spent = process.interruption(tmp_path, "first"), process.seconds(tmp_path, "first")
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "first.interrupted.json").unlink()  # a folder of before has none
    process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    assert (tmp_path / "first").exists()
    assert process.interruption(tmp_path, "first") == told
    assert process.seconds(tmp_path, "first") == spent


def test_seconds_add_up_when_a_search_is_cut_off(process: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="status 1"):
        process.search(command(tmp_path, "second", 5, then="sys.exit(1)"), tmp_path, "second")
    (tmp_path / "second").rmdir()
    spent = process.seconds(tmp_path, "second")
    process.search(command(tmp_path, "second", 10), tmp_path, "second")
    assert process.seconds(tmp_path, "second") > spent + 5 * 0.005


def test_search_is_refused_when_ctrl_c_does_not_end_it_as_it_should(process: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Ctrl-C ended the search with status 1: no"):
        process.interrupted_search([sys.executable, "-c", "raise SystemExit('no')"], tmp_path, "first")
    assert not (tmp_path / "first.interruption.json").exists()


def test_search_is_not_left_running_when_the_benchmark_fails(
    process: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = time.sleep

    def fail(duration_s: float) -> None:
        if process.evaluations(tmp_path, "first"):
            raise ZeroDivisionError
        wait(0.01)

    monkeypatch.setattr(process.time, "sleep", fail)
    with pytest.raises(ZeroDivisionError):
        process.interrupted_search(command(tmp_path, "first"), tmp_path, "first")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "first.search" / "process").read_text()), 0)

"""A search as a process of its own: run to its end, or interrupted by Ctrl-C and taken up again.

In the work folder of a family a search has, by its name: the artifact (``NAME``), the evaluations (``NAME.search``),
the seconds that it took (``NAME.seconds.json``), and what Ctrl-C left: first ``NAME.interrupted.json``, and when it has
ended ``NAME.interruption.json``. All of it is found again. A search that was cut off goes on; one whose artifact alone
was removed is certified again from its evaluations, with the seconds and the interruption that it had; to do one from
nothing, remove everything of its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rankine.config import Frozen

INTERRUPT_AFTER = 12
"""Evaluations; among them are some that trained."""
_INTERRUPTED = 130
_ENDED = (0, 3)
"""3 says that no variant reaches the target, which is a result too."""


class Interruption(Frozen):
    """What Ctrl-C left.

    Attributes:
        said: the last line of standard error.
        kept: evaluations that were on disk; untouched: those of them that the second start did not write again.
    """

    exit_status: int
    said: str
    kept: int
    untouched: int


class _Interrupted(Frozen):
    """What is known before the search is taken up again; ``written`` has the time of each evaluation's file, in ns."""

    exit_status: int
    said: str
    written: Mapping[str, int]


def search(command: Sequence[str], work: Path, name: str) -> None:
    """Run a search to its end, if it is not there yet."""
    if (work / name).exists():
        return
    with _timed(work, name):
        status = subprocess.run(command, check=False).returncode
    if status not in _ENDED:
        raise SystemExit(f"the search ended with status {status}")


def interrupted_search(command: Sequence[str], work: Path, name: str) -> None:
    """Run a search, interrupt it, and run it to its end."""
    held, told = work / f"{name}.interrupted.json", work / f"{name}.interruption.json"
    if not held.exists() and not told.exists():
        _write(held, _interrupt(command, work, name).model_dump_json())
    search(command, work, name)
    if not told.exists():
        before = _Interrupted.model_validate_json(held.read_text(encoding="utf-8"))
        _write(told, _compared(before, evaluations(work, name)).model_dump_json())


def evaluations(work: Path, name: str) -> dict[str, int]:
    """The files of a search's evaluations, each with the time of its writing, in ns."""
    return {path.name: path.stat().st_mtime_ns for path in (work / f"{name}.search" / "evaluations").glob("*.json")}


def seconds(work: Path, name: str) -> float:
    """What a search took, all starts together."""
    return float(json.loads(_seconds_file(work, name).read_text(encoding="utf-8")))


def interruption(work: Path, name: str) -> Interruption:
    return Interruption.model_validate_json((work / f"{name}.interruption.json").read_text(encoding="utf-8"))


def _interrupt(command: Sequence[str], work: Path, name: str) -> _Interrupted:
    """Start a search, and end it by Ctrl-C after some evaluations; nobody is left running, whatever happens here."""
    enough = len(evaluations(work, name)) + INTERRUPT_AFTER
    with _timed(work, name), tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stderr=errors)
        try:
            while process.poll() is None and len(evaluations(work, name)) < enough:
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            process.wait()
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        said = errors.read().strip()
    if process.returncode != _INTERRUPTED:
        raise SystemExit(f"Ctrl-C ended the search with status {process.returncode}: {said}")
    last = said.splitlines()[-1].replace(str(work), "WORK")
    return _Interrupted(exit_status=process.returncode, said=last, written=evaluations(work, name))


def _compared(before: _Interrupted, after: Mapping[str, int]) -> Interruption:
    return Interruption(
        exit_status=before.exit_status,
        said=before.said,
        kept=len(before.written),
        untouched=sum(after.get(name) == when for name, when in before.written.items()),
    )


@contextmanager
def _timed(work: Path, name: str) -> Iterator[None]:
    """Adds up what a search takes. To certify again what it has found is no search: then its seconds stay."""
    file, before, begin = _seconds_file(work, name), evaluations(work, name), time.monotonic()
    try:
        yield
    finally:
        if not file.exists() or evaluations(work, name) != before:
            spent = seconds(work, name) if file.exists() else 0.0
            _write(file, json.dumps(spent + time.monotonic() - begin))


def _seconds_file(work: Path, name: str) -> Path:
    return work / f"{name}.seconds.json"


def _write(path: Path, text: str) -> None:
    """All or nothing."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)

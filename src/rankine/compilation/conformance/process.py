"""Checks run in a process of their own: a crash or a hang of an engine is a failed check, and the rest goes on.

Each engine and model has a fresh process, so that one engine's memory and threads are not another's.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from rankine.artifact import Artifact
from rankine.compilation.conformance.case import Case, build_case
from rankine.compilation.conformance.checks import CHECKS
from rankine.compilation.conformance.result import CheckOutcome
from rankine.compilation.engines import load_engine
from rankine.errors import RankineError
from rankine.models.variant import load_model

__all__ = ["BUILD", "Job", "run_job"]

BUILD = "build"
"""Name of what comes before all checks."""
_WHATEVER_IT_RAISES: tuple[type[Exception], ...] = (Exception,)
"""An engine is a stranger's code: whatever it raises is told as a check that failed."""


@dataclass(frozen=True)
class Job:
    """One engine on one device with one variant of an artifact, and the names of the checks."""

    engine: str
    device: str
    artifact: Path
    variant: str
    checks: tuple[str, ...]


def run_job(job: Job, timeout_s: float) -> Iterator[CheckOutcome]:
    """The outcome of the build, then of each check, as they come. Where the build fails, nothing follows.

    Args:
        timeout_s: for the build and for each check.
    """
    left = (BUILD, *job.checks)
    with tempfile.TemporaryDirectory(prefix="rankine-conformance-") as builds:  # ours: a child may be killed
        while left:
            done = 0
            for outcome in _in_a_process(job, left, Path(tempfile.mkdtemp(dir=builds)), timeout_s):
                done += 1
                yield outcome
                if outcome.check == BUILD and not outcome.passed:
                    return
            left = left[done:]


def _in_a_process(job: Job, names: Sequence[str], folder: Path, timeout_s: float) -> Iterator[CheckOutcome]:
    """Outcomes of ``names`` in their order; the last is that of the check at which the process ended, if it did.

    It always builds first, into the empty ``folder``, in a time of its own; where a build is not among ``names``, it
    has an outcome only if it fails.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, job, tuple(names), folder), daemon=True)
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        for name in names if names[0] == BUILD else (BUILD, *names):
            try:
                if not receiver.poll(timeout_s):
                    process.kill()
                    yield CheckOutcome(
                        check=name, passed=False, reason=f"took more than {timeout_s:g} s, and was ended"
                    )
                    return
                outcome: CheckOutcome = receiver.recv()
                if name in names or not outcome.passed:
                    yield outcome
            except EOFError:
                process.join()
                yield CheckOutcome(check=name, passed=False, reason=f"the process ended: {_ending(process.exitcode)}")
                return
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        receiver.close()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"status {status}"


def _work(sender: Connection, job: Job, names: Sequence[str], folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: who started this ends it, and tells
    outcome, case = _build(job, folder)
    sender.send(outcome)
    if case is not None:
        for name in names:
            if name != BUILD:
                sender.send(_check(name, case))


def _build(job: Job, folder: Path) -> tuple[CheckOutcome, Case | None]:
    try:
        model = load_model(Artifact.open(job.artifact), job.variant)
        case = build_case(job.engine, load_engine(job.engine), model, folder, device=job.device)
    except _WHATEVER_IT_RAISES as error:
        return CheckOutcome(check=BUILD, passed=False, reason=_told(error)), None
    return CheckOutcome(check=BUILD, passed=True), case


def _check(name: str, case: Case) -> CheckOutcome:
    try:
        return CheckOutcome(check=name, passed=True, figures=CHECKS[name](case))
    except _WHATEVER_IT_RAISES as error:
        return CheckOutcome(check=name, passed=False, reason=_told(error))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, RankineError) else f"{type(error).__name__}: {error}"

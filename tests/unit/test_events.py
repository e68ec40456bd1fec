"""Events around a unit of work."""

from __future__ import annotations

import dataclasses

import pytest

from rankine.events import Event, Failed, Finished, Note, Progress, Started, ignore, step


def test_step_tells_start_progress_and_end_when_work_succeeds() -> None:
    told: list[Event] = []
    with step(told.append, "fit", total=2, unit="epochs") as advance:
        advance(1, "auc 0.7")
        advance(2, "auc 0.8")
    assert told[:3] == [
        Started("fit", total=2, unit="epochs"),
        Progress("fit", done=1, detail="auc 0.7"),
        Progress("fit", done=2, detail="auc 0.8"),
    ]
    end = told[3]
    assert isinstance(end, Finished)
    assert (end.task, end.detail) == ("fit", "auc 0.8")
    assert end.seconds >= 0
    assert len(told) == 4


def fail_in_step(told: list[Event], error: BaseException) -> None:
    with step(told.append, "fit"):
        raise error


@pytest.mark.parametrize("error", [ValueError("no rows"), KeyboardInterrupt()])
def test_step_tells_failure_and_raises_when_work_fails(error: BaseException) -> None:
    told: list[Event] = []
    with pytest.raises(type(error)):
        fail_in_step(told, error)
    assert told == [Started("fit"), Failed("fit", f"{type(error).__name__}: {error}")]


def test_event_refuses_change_when_told() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Note("fit", text="done").text = "undone"  # type: ignore[misc]


def test_note_figures_are_separate_when_not_given() -> None:
    assert Note("a").figures is not Note("a").figures


def test_step_runs_quietly_when_nobody_listens() -> None:
    with step(ignore, "fit") as advance:
        advance(1, "")

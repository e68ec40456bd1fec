"""Stages emit events; only the command line and the report render them.

A stage takes ``emit: Emit = ignore`` and tells what it does. Nothing is global: a caller who wants to see the
events passes a function, a caller who does not passes none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

__all__ = ["Emit", "Event", "Failed", "Finished", "Note", "Progress", "Started", "ignore", "step"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a stage tells: ``task`` names the unit of work it belongs to."""

    task: str


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A unit of work began; ``total`` is its length in ``unit``s where it is known."""

    total: int | None = None
    unit: str = "steps"


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """A unit of work advanced to ``done`` of its total; ``detail`` is a few words on its state."""

    done: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A unit of work ended well."""

    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """A unit of work failed; the rest goes on where the stage can."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A fact worth telling, with its figures."""

    text: str = ""
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The default listener: nobody listens."""


@contextmanager
def step(emit: Emit, task: str, total: int | None = None, unit: str = "steps") -> Iterator[Callable[[int, str], None]]:
    """Emit ``Started``, then ``Finished`` or ``Failed``, around a unit of work.

    Yields a function ``advance(done, detail)`` that emits ``Progress``.
    """
    begin = perf_counter()
    last = ""

    def advance(done: int, detail: str = "") -> None:
        nonlocal last
        last = detail
        emit(Progress(task, done, detail))

    emit(Started(task, total, unit))
    try:
        yield advance
    except BaseException as error:
        emit(Failed(task, f"{type(error).__name__}: {error}"))
        raise
    emit(Finished(task, perf_counter() - begin, last))

"""How events, tables and results look on a terminal, and as plain lines where there is none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import click

from rankine.config import Frozen
from rankine.events import Emit, Event, Failed, Finished, Note, Progress, Started

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["format_bytes", "print_json", "print_lines", "print_table", "watch"]

_PLAIN_INTERVAL_S = 15.0
_WIDE = 160


@contextmanager
def watch(*, quiet: bool = False) -> Iterator[Emit]:
    """A listener for events: progress bars on a terminal, plain lines elsewhere; always on standard error."""
    if quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _bars() as emit:
            yield emit
    else:
        yield _plain()


def print_json(record: Frozen) -> None:
    """A record as indented JSON on standard output."""
    click.echo(record.model_dump_json(indent=2))


def format_bytes(size_bytes: int) -> str:
    """A size with a decimal unit: ``0.5 kB``, ``75.31 MB``."""
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 100_000 else f"{size_bytes / 1e6:,.2f} MB"


def print_lines(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels and texts, aligned."""
    width = max((len(label) for label, _ in pairs), default=0)
    for label, text in pairs:
        click.echo(f"  {label:<{width}}  {text}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """A table; columns after the first are right-aligned where their cells are numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=title and escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for number, name in enumerate(header):
        numeric = number > 0 and all(_is_numeric(row[number]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(width=_width(), soft_wrap=False).print(table)


def _width() -> int:
    """Of the terminal, or as ``COLUMNS`` says; wide where neither is known: what reads a pipe wants whole cells."""
    return shutil.get_terminal_size((_WIDE, 0)).columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDE


def _is_numeric(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "+-—±<>"


def _figures(note: Note) -> str:
    shown = [
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in note.figures.items()
    ]
    return f"{note.text}: {', '.join(shown)}" if shown else note.text


def _plain() -> Emit:
    """One line at the start and end of each task, and now and then between."""
    said: dict[str, float] = {}
    totals: dict[str, Started] = {}

    def emit(event: Event) -> None:
        match event:
            case Started():
                said[event.task], totals[event.task] = monotonic(), event
                click.echo(f"{event.task} …", err=True)
            case Progress():
                if monotonic() - said.get(event.task, 0.0) >= _PLAIN_INTERVAL_S:
                    said[event.task] = monotonic()
                    begun = totals.get(event.task)
                    of = f"{event.done}/{begun.total} {begun.unit} " if begun and begun.total else ""
                    click.echo(f"  {event.task}: {of}{event.detail}", err=True)
            case Finished():
                click.echo(f"{event.task}: done in {event.seconds:.1f} s {event.detail}".rstrip(), err=True)
            case Failed():
                click.echo(f"{event.task}: FAILED: {event.reason}", err=True)
            case Note():
                click.echo(f"  {event.task}: {_figures(event)}", err=True)

    return emit


@contextmanager
def _bars() -> Iterator[Emit]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def emit(event: Event) -> None:
            match event:
                case Started():
                    tasks[event.task] = bars.add_task(event.task, total=event.total, detail="")
                case Progress() if event.task in tasks:
                    bars.update(tasks[event.task], completed=event.done, detail=event.detail)
                case Finished() if event.task in tasks:
                    bars.remove_task(tasks.pop(event.task))
                    text = f"{escape(event.task)} [dim]{event.seconds:.1f} s[/] {escape(event.detail)}"
                    bars.console.print(f"[green]✓[/] {text}", highlight=False)
                case Failed():
                    if event.task in tasks:
                        bars.remove_task(tasks.pop(event.task))
                    bars.console.print(f"[red]✗[/] {escape(event.task)}: {escape(event.reason)}", highlight=False)
                case Note():
                    bars.console.print(f"  [dim]{escape(event.task)}:[/] {escape(_figures(event))}", highlight=False)

        yield emit

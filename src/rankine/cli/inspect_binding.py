"""A picture of a variant in parts: what is computed once an item, once a request and for every row."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import click

from rankine.config import Frozen

if TYPE_CHECKING:
    from rankine.artifact import Artifact
    from rankine.compilation.binding.plan import BindingPlan, Column

__all__ = ["BindingView", "PartView", "ValueView", "binding_view", "print_binding"]

_BAR, _LINE = 48, 110
_OWN_NAMES = "rankine/"
"""What names of values begin with that the compiler gave."""
_WHEN = {"catalog": "an item", "request": "a request", "candidate": "a row"}


class ValueView(Frozen):
    """A value that a row gathers: one that a part computes, or a feature; ``bytes_per_row`` as it is stored."""

    name: str
    width: int
    bytes_per_row: int


class PartView(Frozen):
    """One part of the model.

    Attributes:
        macs: multiply-adds, each time it is run.
        features: that it reads.
        values: that it gives to the rows; of the candidate's part the scores alone, so none.
    """

    part: Literal["catalog", "request", "candidate"]
    macs: int
    features: tuple[str, ...]
    values: tuple[ValueView, ...]


class BindingView(Frozen):
    """A variant in parts.

    Attributes:
        macs_before, macs_per_row: multiply-adds of a row, of the whole graph and of the candidate's part.
        bytes_before, bytes_per_row: what a row reads of features, and what it gathers of the parts' values and of
            features; ``request_bytes`` of these are the same for all rows of a request.
        stored_bytes: of an item, beside its features.
        kept_whole: what could not be split, and why.
    """

    macs_before: int
    macs_per_row: int
    bytes_before: int
    bytes_per_row: int
    request_bytes: int
    stored_bytes: int
    parts: tuple[PartView, ...]
    kept_whole: tuple[str, ...]


def binding_view(artifact: Artifact, variant: str) -> BindingView | None:
    """What is shown of a variant; None where it is not in parts.

    Raises:
        ArtifactError: its plan cannot be read.
    """
    from rankine.compilation.compile import is_split, read_binding_plan

    return _view(read_binding_plan(artifact, variant)) if is_split(artifact, variant) else None


def print_binding(variant: str, view: BindingView) -> None:
    """Three bars in proportion to the multiply-adds of a part, below that of the whole graph, with what crosses."""
    largest = max(view.macs_before, *(part.macs for part in view.parts), 1)
    click.echo(f"  {variant} in parts")
    _bar("whole graph", view.macs_before, largest, "a row, before")
    for part in view.parts:
        _bar(part.part, part.macs, largest, _WHEN[part.part])
        _names("reads", part.features)
        _names("gives", [f"{_short(value.name)}[{value.width}]" for value in part.values])
    for reason in view.kept_whole:
        _names("whole", [reason])
    share = view.macs_per_row / view.macs_before if view.macs_before else 1.0
    click.echo(f"    MACs a row   {view.macs_before:,} -> {view.macs_per_row:,} ({share:.0%})")
    shared = f", {view.request_bytes:,} of them shared by a request's rows" if view.request_bytes else ""
    click.echo(f"    bytes a row  {view.bytes_before:,} -> {view.bytes_per_row:,}{shared}")
    click.echo(f"    stored       {view.stored_bytes:,} bytes an item")
    click.echo()


def _view(plan: BindingPlan) -> BindingView:
    late = [column.name for column in (*plan.catalog, *plan.request, *plan.row) if column.source == "input"]
    parts = (
        _part("catalog", plan.work.catalog, plan.catalog_inputs, plan.catalog),
        _part("request", plan.work.request, plan.request_inputs, plan.request),
        _part("candidate", plan.work.candidate, late, ()),
    )
    return BindingView(
        macs_before=plan.work.before,
        macs_per_row=plan.work.candidate,
        bytes_before=plan.bytes_before,
        bytes_per_row=plan.bytes_per_row,
        request_bytes=sum(column.bytes_per_row for column in plan.request),
        stored_bytes=plan.stored_bytes_per_item,
        parts=parts,
        kept_whole=plan.kept_whole,
    )


def _part(
    part: Literal["catalog", "request", "candidate"], macs: int, features: Iterable[str], columns: Iterable[Column]
) -> PartView:
    computed = [column for column in columns if column.source == "computed"]
    values = [ValueView(name=one.name, width=one.width, bytes_per_row=one.bytes_per_row) for one in computed]
    return PartView(part=part, macs=macs, features=tuple(features), values=tuple(values))


def _bar(label: str, macs: int, largest: int, when: str) -> None:
    cells = max(round(_BAR * macs / largest), 1 if macs else 0)
    click.echo(f"    {label:<11}  {'█' * cells:<{_BAR}}  {macs:,} MACs {when}")


def _names(label: str, names: Iterable[str]) -> None:
    text = ", ".join(names)
    if text:
        indent = " " * 17
        wrapped = textwrap.wrap(text, _LINE, initial_indent=f"{indent}{label}  ", subsequent_indent=f"{indent}       ")
        click.echo("\n".join(wrapped))


def _short(name: str) -> str:
    return name.removeprefix(_OWN_NAMES)

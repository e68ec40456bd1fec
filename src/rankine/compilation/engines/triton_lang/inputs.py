"""What fills a program's inputs: the host, the tables on the device, or what the rows of a request share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankine.compilation.engines.triton_lang.tables import DeviceTables
from rankine.compilation.fused.program import Element, Program
from rankine.compilation.lookup import inputs_of
from rankine.models.graph_inputs import GraphInput, Piece, side_by_side
from rankine.models.lookup_plan import Source, plan_sources
from rankine.models.schema import DenseFeature
from rankine.models.transforms import table_of
from rankine.models.variant import Model

__all__ = ["Copied", "InputPlan", "Looked", "Shared", "plain_plan", "plan_inputs"]


@dataclass(frozen=True)
class Copied:
    """Columns that the host has filled, from ``staged`` on of its array for this input."""

    slot: int
    column: int
    staged: int
    width: int


@dataclass(frozen=True)
class Looked:
    """A feature that the device looks up, from ``column`` on."""

    slot: int
    column: int
    source: Source
    table: str


@dataclass(frozen=True)
class Shared:
    """Columns that rows have of their request, where these begin at ``start``.

    Attributes:
        added: to what the host has filled in.
    """

    slot: int
    column: int
    width: int
    start: int
    added: bool


@dataclass(frozen=True)
class InputPlan:
    """Of a program's inputs.

    Attributes:
        host: what the host fills, one an input that it fills something of; ``slots`` says which.
        request_width: of what a request's rows share; 0 where that is nothing.
    """

    host: tuple[GraphInput, ...]
    slots: tuple[int, ...]
    copied: tuple[Copied, ...]
    looked: tuple[Looked, ...] = ()
    shared: tuple[Shared, ...] = ()
    request_width: int = 0


def plain_plan(program: Program) -> InputPlan:
    """All of every input from the host, by whoever has filled its arrays."""
    host = tuple(
        GraphInput(name=f"input {at}", pieces=(Piece(column=0, width=slot.width, request=0),))
        for at, slot in enumerate(program.inputs)
    )
    copied = tuple(Copied(at, 0, 0, slot.width) for at, slot in enumerate(program.inputs))
    return InputPlan(host, tuple(range(len(host))), copied)


def plan_inputs(model: Model, program: Program, tables: DeviceTables) -> InputPlan | None:
    """What fills each input of a model's program; None where they do not fit each other."""
    sources = {source.name: source for source in plan_sources(model.schema, model.tables)}
    given = inputs_of(sources.values(), model.inputs or None)
    if len(program.inputs) == 1 < len(given):
        given = (side_by_side(given),)
    if [one.width for one in given] != [slot.width for slot in program.inputs]:
        return None
    names = {one.name: table_of(one) for one in model.schema.features if not isinstance(one, DenseFeature)}
    host: list[GraphInput] = []
    slots: list[int] = []
    copied: list[Copied] = []
    looked: list[Looked] = []
    shared: list[Shared] = []
    for slot, one in enumerate(given):
        pieces: list[Piece] = []
        for piece in one.pieces:
            table = names.get(piece.feature or "", "")
            is_device = program.inputs[slot].element is Element.F32 and one.rounding is None
            if is_device and table in tables:
                looked.append(Looked(slot, piece.column, sources[piece.feature or ""], table))
                continue
            if is_device and piece.request is not None:
                added = piece.item is not None
                shared.append(Shared(slot, piece.column, piece.width, piece.request, added))
                if not added:
                    continue
                piece = piece.model_copy(update={"request": None})
            staged = sum(other.width for other in pieces)
            copied.append(Copied(slot, piece.column, staged, piece.width))
            pieces.append(piece.model_copy(update={"column": staged}))
        if pieces:
            host.append(GraphInput(name=one.name, pieces=tuple(pieces), rounding=one.rounding))
            slots.append(slot)
    width = max((one.start + one.width for one in shared), default=0)
    return InputPlan(tuple(host), tuple(slots), _joined(copied), tuple(looked), tuple(shared), width)


def _joined(copied: Sequence[Copied]) -> tuple[Copied, ...]:
    """Neighbours as one."""
    found: list[Copied] = []
    for one in copied:
        before = found[-1] if found else None
        if (
            before is not None
            and before.slot == one.slot
            and (before.column + before.width, before.staged + before.width) == (one.column, one.staged)
        ):
            found[-1] = Copied(one.slot, before.column, before.staged, before.width + one.width)
        else:
            found.append(one)
    return tuple(found)

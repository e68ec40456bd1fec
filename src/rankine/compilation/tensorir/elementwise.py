"""Steps that work element by element, and those that move elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from rankine.compilation.fused.program import Binary, Code
from rankine.compilation.fused.steps import Step
from rankine.compilation.fused.views import coalesced
from rankine.compilation.tensorir.epilogue import rounded
from rankine.compilation.tensorir.library import tirx
from rankine.compilation.tensorir.nodes import Expr, Function, cast, f32, i64, spread
from rankine.compilation.tensorir.numeric import BINARY, SCALAR, UNARY
from rankine.compilation.tensorir.places import Place, each_element

__all__ = ["emit_dequantize", "emit_elements", "emit_quantize", "emit_take", "emit_where"]

Places = Mapping[int, Place]


def emit_elements(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    """``UNARY``, ``BINARY`` and ``COPY_U8``; what is the same in a whole row is read once and spread."""
    slots = sorted(step.views)
    dims, strides = coalesced([step.views[slot] for slot in slots])
    by_library = (step.code is Code.UNARY and step.kind in SCALAR) or (
        step.code is Code.BINARY and step.kind == Binary.POW
    )
    fixed = {slot for slot, own in zip(slots, strides, strict=True) if dims and own[-1] == 0}
    wide = 1 if by_library else lanes

    with function.loop(rows, name="row") as row:

        def write(indices: Sequence[Expr], each: int) -> None:
            values = []
            for slot, index in zip(slots[1:], indices[1:], strict=True):
                place = places[slot]
                if slot in fixed:
                    values.append(spread(place.load(row, index), each))
                else:
                    values.append(place.load(row, index, each))
            target = places[slots[0]]
            function.store(target.memory, target.element, _result(step, values, each), target.at(row, indices[0]), each)

        each_element(function, dims, strides, wide, write)


def emit_where(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    size = step.views[0].size
    with function.loop(rows, name="row") as row:

        def write(indices: Sequence[Expr], each: int) -> None:
            condition, then, other = (places[slot].load(row, indices[0], each) for slot in (2, 3, 4))
            value = tirx.Select(tirx.NE(condition, spread(f32(0), each)), then, other)
            function.store(places[0].memory, "float32", value, places[0].at(row, indices[0]), each)

        each_element(function, (size,), ((1,),), lanes, write)


def emit_take(function: Function, step: Step, places: Places, indices: Place, rows: Expr, lanes: int) -> None:
    """Places along the middle axis of ``(before, length, after)``."""
    before, count, after = step.views[0].dims
    length = step.views[2].dims[1]
    with ExitStack() as loops:
        row, outer, at = (
            loops.enter_context(function.loop(times, name=name))
            for times, name in ((rows, "row"), (before, "before"), (count, "place"))
        )
        taken = function.bind(tirx.Cast("int64", indices.load(i64(0), at)), "taken")
        source = function.bind((outer * i64(length) + taken) * i64(after), "source")
        target = function.bind((outer * i64(count) + at) * i64(after), "target")

        def write(inner: Sequence[Expr], each: int) -> None:
            value = places[2].load(row, source + inner[0], each)
            function.store(places[0].memory, "float32", value, places[0].at(row, target + inner[0]), each)

        each_element(function, (after,), ((1,),), lanes, write)


def emit_quantize(function: Function, step: Step, places: Places, inverse: Place, rows: Expr, lanes: int) -> None:
    (zero,) = step.numbers
    with function.loop(rows, name="row") as row:

        def write(indices: Sequence[Expr], each: int) -> None:
            at = indices[0]
            codes = rounded(places[2].load(row, at, each), inverse.load(i64(0), at, each), zero, each)
            function.store(places[1].memory, "uint8", codes, places[1].at(row, at), each)

        each_element(function, (step.views[2].size,), ((1,),), lanes, write)


def emit_dequantize(function: Function, step: Step, places: Places, rows: Expr, lanes: int) -> None:
    zero, size = step.numbers
    with function.loop(rows, name="row") as row:

        def write(indices: Sequence[Expr], each: int) -> None:
            codes = cast("float32", places[2].load(row, indices[0], each), each)
            value = (codes - spread(f32(zero), each)) * spread(f32(size), each)
            function.store(places[0].memory, "float32", value, places[0].at(row, indices[0]), each)

        each_element(function, (step.views[2].size,), ((1,),), lanes, write)


def _result(step: Step, values: Sequence[Expr], lanes: int) -> Expr:
    if step.code is Code.UNARY:
        return UNARY[step.kind](values[0], step.numbers, lanes)
    if step.code is Code.BINARY:
        return BINARY[step.kind](values[0], values[1], lanes)
    return values[0]

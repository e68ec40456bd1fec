"""Operators that move elements: reshape, transpose, concatenate, cut, repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from rankine.compression.prune.operation import Operation
from rankine.compression.prune.plan import Unshrinkable, outer, projections
from rankine.models.rewrite.graph import attribute, evaluate, failures

if TYPE_CHECKING:
    from rankine.compression.prune.plan import Plan
    from rankine.compression.prune.trace import Trace

__all__ = ["movement"]

_RIGID = ("Flatten", "Identity", "Pad", "Squeeze", "Tile", "Transpose", "Unsqueeze")


def movement(trace: Trace, node: onnx.NodeProto, data: tuple[str, ...]) -> Operation | None:
    """The operation of a node that moves elements; None where it is none, or its places are computed."""
    kinds: dict[str, type[_Movement]] = {"Concat": _Concat, "Expand": _Expand, "Reshape": _Reshape}
    kinds |= dict.fromkeys(("Gather", "Slice", "Split"), _Cut) | dict.fromkeys(_RIGID, _Movement)
    kind = kinds.get(node.op_type)
    moved = tuple(node.input) if kind is _Concat else (str(node.input[0]),)
    if kind is None or not set(data) <= set(moved):
        return None
    if node.op_type == "Pad" and attribute(node, "mode", "constant") != "constant":
        return None
    if node.op_type == "Gather" and len(trace.shape(node.input[1])) > 1:
        return None
    try:
        return kind(trace, node, moved)
    except failures:
        return None


class _Movement(Operation):
    """Where every element of the outputs comes from is seen by moving numbers; what is left follows."""

    def __init__(self, trace: Trace, node: onnx.NodeProto, moved: tuple[str, ...]) -> None:
        super().__init__(node, tuple(name for name in dict.fromkeys(moved) if name not in trace.graph.constants))
        self.moved = moved
        sizes = [int(np.prod(trace.shape(name))) for name in moved]
        self._starts = np.cumsum([0, *sizes])
        inputs = [f"moved/{position}" for position in range(len(moved))]
        rest = [name for name in node.input[len(moved) :] if name]
        feeds = {name: trace.values[name] if name in trace.values else trace.graph.constants[name] for name in rest}
        for name, own, start in zip(moved, inputs, self._starts[:-1], strict=True):
            shape = trace.shape(name)
            feeds[own] = np.arange(1 + start, 1 + start + np.prod(shape, dtype=int)).reshape(shape)
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[: len(moved)] = inputs
        if node.op_type == "Pad" and len(node.input) > 2:
            copy.input[2] = ""  # what is padded comes from nowhere
        found = evaluate(copy, {name: value for name, value in feeds.items() if name in copy.input}, trace.graph.opset)
        self.origins = {name: np.asarray(value, np.int64) for name, value in found.items()}
        """For each element of an output 1 plus the place of its origin in all inputs, flat; 0: none."""

    def label(self, trace: Trace) -> None:
        none = np.zeros(1, np.int64)
        parts = [trace.ids.get(name, np.zeros(trace.shape(name), np.int64)).ravel() for name in self.moved]
        everything = np.concatenate([none, *parts])
        for name, origin in self.origins.items():
            trace.put(name, everything[origin])

    def need(self, plan: Plan) -> None:
        wanted = np.zeros(self._starts[-1] + 1, bool)
        for name, origin in self.origins.items():
            wanted[origin[plan.needed(name)]] = True
        for position, name in enumerate(self.moved):
            if name in plan.trace.ids:
                part = wanted[1:][self._starts[position] : self._starts[position + 1]]
                plan.need(name, part.reshape(plan.trace.shape(name)))

    def shrink(self, plan: Plan) -> None:
        plan.emit(self.node)
        plan.put(self.output, self.left(plan))

    def left(self, plan: Plan) -> tuple[np.ndarray, ...]:
        """What the output has, given what its input has."""
        have = outer(plan.kept[self.moved[0]]).ravel()
        elements = np.concatenate([[True], have])[self.origins[self.output]]
        kept = projections(elements)
        if not np.array_equal(outer(kept), elements):
            raise Unshrinkable(f"what is left of '{self.output}' is no rectangle")
        return kept


class _Reshape(_Movement):
    def shrink(self, plan: Plan) -> None:
        kept = self.left(plan)
        if plan.is_whole(self.moved[0]):
            plan.emit(self.node)
        else:
            rows = plan.trace.rows_axis[self.output]
            sizes = [-1 if axis == rows else int(mask.sum()) for axis, mask in enumerate(kept)]
            plan.make("Reshape", [self.moved[0], plan.constant(sizes)], self.output, allowzero=1)
        plan.put(self.output, kept)


class _Expand(_Movement):
    """Where it repeats something, it repeats it as often as is needed."""

    def shrink(self, plan: Plan) -> None:
        name, trace = self.moved[0], plan.trace
        needed, shape = projections(plan.needed(self.output)), trace.shape(self.output)
        lead = len(shape) - len(trace.shape(name))
        have = [np.ones(1, bool)] * lead + list(plan.kept[name])
        kept = [want if len(own) == 1 else own for want, own in zip(needed, have, strict=True)]
        if all(mask.all() for mask in kept):
            plan.emit(self.node)
        else:
            rows = trace.rows_axis[self.output]
            if rows is not None and trace.rows_axis[name] != rows - lead:
                raise Unshrinkable(f"'{self.output}' is made as long as there are rows")
            sizes = [1 if axis == rows else int(mask.sum()) for axis, mask in enumerate(kept)]
            plan.make("Expand", [name, plan.constant(sizes)], self.output)
        plan.put(self.output, kept)


class _Concat(_Movement):
    """Parts of which nothing is left are left out."""

    def shrink(self, plan: Plan) -> None:
        trace, rank = plan.trace, len(plan.trace.shape(self.output))
        axis = attribute(self.node, "axis") % rank
        given = [name for name in self.moved if name in plan.kept and plan.kept[name][axis].any()]
        common = [np.ones(trace.shape(self.output)[other], bool) for other in range(rank)]
        for name in given:
            for other in range(rank):
                if other != axis:
                    common[other] &= plan.kept[name][other]
        parts, kept = [], []
        for name in self.moved:
            if name in trace.graph.constants:
                size = trace.shape(name)[axis]
                parts.append(plan.cut(name, [*common[:axis], np.ones(size, bool), *common[axis + 1 :]]))
                kept.append(np.ones(size, bool))
            elif name in given:
                own = plan.kept[name][axis]
                parts.append(plan.fit(name, [*common[:axis], own, *common[axis + 1 :]]))
                kept.append(own)
            else:
                kept.append(np.zeros(trace.shape(name)[axis], bool))
        common[axis] = np.concatenate(kept)
        if len(parts) == 1:
            plan.make("Identity", parts, self.output)
        else:
            plan.make("Concat", parts, self.output, axis=axis)
        plan.put(self.output, common)


class _Cut(_Movement):
    """Slice, Gather with constant places, Split: of every cut what is needed is taken."""

    def shrink(self, plan: Plan) -> None:
        if plan.is_whole(self.moved[0]) and all(plan.needed(name).all() for name in self.origins):
            plan.emit(self.node)
            for name in self.origins:
                plan.put_whole(name)
            return
        for name in self.origins:
            if plan.is_needed(name):
                self._take(plan, name)

    def _take(self, plan: Plan, output: str) -> None:
        name = self.moved[0]
        source, have, wanted = plan.trace.shape(name), plan.kept[name], list(projections(plan.needed(output)))
        scalar = len(source) - self.origins[output].ndim  # a Gather of one place drops its axis
        dropped = attribute(self.node, "axis", 0) % len(source) if scalar else None
        result, axis = name, 0
        for place, own in enumerate(have):
            places = self._places(source, output, place, dropped)
            if place == dropped:
                continue
            if np.array_equal(places, np.arange(len(own))):
                wanted[axis] = own  # not cut here
            else:
                chosen = places[wanted[axis]]
                if not own[chosen].all() or plan.trace.is_merged(name, place):
                    raise Unshrinkable(f"what '{output}' is cut from is gone")
                result = _taken(plan, result, place, (np.cumsum(own) - 1)[chosen], int(own.sum()))
            axis += 1
        if dropped is not None:
            (only,) = self._places(source, output, dropped, dropped)
            at = plan.constant(int((np.cumsum(have[dropped]) - 1)[only]))
            result = plan.make("Gather", [result, at], axis=dropped)
        plan.make("Identity", [result], output)
        plan.put(output, wanted)

    def _places(self, source: tuple[int, ...], output: str, axis: int, dropped: int | None) -> np.ndarray:
        """Which places of an axis of the input are taken."""
        origin = self.origins[output] - 1
        if dropped is not None:
            origin = np.expand_dims(origin, dropped)
        line = np.moveaxis(origin, axis, 0).reshape(origin.shape[axis], -1)[:, 0]
        places: np.ndarray = np.unravel_index(line, source)[axis]
        return places


def _taken(plan: Plan, name: str, axis: int, places: np.ndarray, extent: int) -> str:
    """These places of an axis; where they follow each other, by a Slice, which copies nothing twice."""
    if np.array_equal(places, np.arange(extent)):
        return name
    if len(places) and np.array_equal(places, np.arange(places[0], places[0] + len(places))):
        bounds = [plan.constant([value]) for value in (places[0], places[-1] + 1, axis, 1)]
        return plan.make("Slice", [name, *bounds])
    return plan.make("Gather", [name, plan.constant(places)], axis=axis)

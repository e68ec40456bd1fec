"""All patterns of a program, those that can be taken, and where its buffers lie then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rankine.compilation.engines.triton_lang.patterns.attention import softmax_attention, unit_attention
from rankine.compilation.engines.triton_lang.patterns.flow import Flow
from rankine.compilation.engines.triton_lang.patterns.layers import cross, interaction
from rankine.compilation.engines.triton_lang.patterns.matches import Match
from rankine.compilation.fused.program import Buffer, Program

__all__ = ["Fusion", "find"]

_PATTERNS: tuple[Callable[[Flow, int], Match | None], ...] = (cross, interaction, unit_attention, softmax_attention)


@dataclass(frozen=True)
class Fusion:
    """A program and what of it runs as one kernel.

    Attributes:
        program: its buffers lie where they are never needed at the same time as what shares their bytes.
        matches: by the operation in whose place each runs.
        dropped: operations that do not run any more.
    """

    program: Program
    matches: Mapping[int, Match]
    dropped: frozenset[int]

    @property
    def kernels(self) -> list[str]:
        """Of what was found, in the order in which it runs."""
        return [type(self.matches[at]).__name__ for at in sorted(self.matches)]


def find(program: Program) -> Fusion:
    """The patterns of a program: a kernel that computes several steps at once never writes what lies between."""
    flow = Flow(program)
    matches: dict[int, Match] = {}
    dropped: dict[int, int] = {}
    for at in range(len(program.operations)):
        for pattern in _PATTERNS:
            match = pattern(flow, at)
            taken = None if match is None else _taken(flow, match)
            if match is not None and taken is not None and not taken & dropped.keys():
                matches[at] = match
                dropped |= dict.fromkeys(taken, at)
                break
    touched = [(operand.buffer, at) for at, match in matches.items() for operand, _, _ in match.reads]
    lives = flow.lives(dropped, touched)
    return Fusion(replace(program, buffers=_placed(program.buffers, lives)), matches, frozenset(dropped))


def _taken(flow: Flow, match: Match) -> set[int] | None:
    """Operations that a match does alone; None where it would miss what it needs, or read what is gone by then."""
    taken: set[int] = set()
    for at in sorted(match.does, reverse=True):
        if flow.readers(at) <= taken | {match.at}:
            taken.add(at)
    if not match.needs <= taken:
        return None
    for operand, size, since in match.reads:
        region = flow.region(operand, size)
        if flow.sources(since, region) & taken or not flow.is_unchanged(region, since, match.at, taken):
            return None
    return taken


def _placed(buffers: tuple[Buffer, ...], lives: Mapping[int, tuple[int, int]]) -> tuple[Buffer, ...]:
    """A place for every buffer that is touched: large ones first, each at the lowest that is free while it lives."""
    found: dict[int, Buffer] = {}
    for at in sorted(lives, key=lambda at: -buffers[at].stride * buffers[at].element.size_bytes):
        first, last = lives[at]
        others = [found[other] for other in found if lives[other][0] <= last and first <= lives[other][1]]
        size, place = replace(buffers[at], place=0).end, 0
        for other in sorted(others, key=lambda one: one.place):
            if place + size <= other.place:
                break
            place = max(place, other.end)
        found[at] = replace(buffers[at], place=place)
    return tuple(found.get(at, replace(buffer, place=0)) for at, buffer in enumerate(buffers))

"""Which inputs that rows have of their request kernels find there themselves, so that they are not spread over rows."""

from __future__ import annotations

from collections.abc import Iterable

from rankine.compilation.engines.triton_lang.inputs import Shared
from rankine.compilation.engines.triton_lang.patterns import Fusion, SoftmaxAttention, UnitAttention
from rankine.compilation.engines.triton_lang.patterns.flow import Flow, Region
from rankine.compilation.fused.program import Code, Operand

__all__ = ["kept_shared"]

_ADDEND = 3


def kept_shared(fusion: Fusion, shared: Iterable[Shared]) -> list[Shared]:
    """Those that nobody but addends of layers and histories of attention reads.

    What attention reads of a history is all shared, or none of it.
    """
    flow, program = Flow(fusion.program), fusion.program
    found: dict[Operand, Shared] = {}
    for one in shared:
        slot = program.inputs[one.slot]
        operand = Operand(slot.buffer, slot.offset)
        if (one.column, one.width) == (0, slot.width) and _is_found_by_request(flow, fusion, operand, one):
            found[operand] = one
    while True:
        mixed = {
            operand
            for match in fusion.matches.values()
            for operand in _of_history(match)
            if any(other not in found for other in _of_history(match))
        }
        if not mixed & found.keys():
            return list(found.values())
        for operand in mixed:
            found.pop(operand, None)


def _is_found_by_request(flow: Flow, fusion: Fusion, operand: Operand, one: Shared) -> bool:
    region = flow.region(operand, one.width)
    readers = flow.readers_of(region, fusion.dropped)
    matches = [match for match in fusion.matches.values() if any(read == operand for read, _, _ in match.reads)]
    if readers is None or not (readers or matches) or len(flow.operations) in readers:
        return False
    if any(one.added or operand not in _of_history(match) for match in matches):
        return False
    return all(_is_addend(flow, at, operand, region) for at in readers if at not in fusion.matches)


def _is_addend(flow: Flow, at: int, operand: Operand, region: Region) -> bool:
    """Whether all that an operation reads of an input is the addend of a layer of rows."""
    operation = flow.operations[at]
    is_layer = operation.code in (Code.LINEAR_F32, Code.LINEAR_I8) and operation.groups == 1
    is_once = sum(read.meets(region) for read in flow.reads(at)) == 1
    return is_layer and is_once and operation.operands[_ADDEND] == operand


def _of_history(match: object) -> list[Operand]:
    if isinstance(match, UnitAttention):
        return [one for one in (match.keys, match.lengths, match.of_history) if one is not None]
    if isinstance(match, SoftmaxAttention):
        return [one for one in (match.keys, match.lengths) if one is not None]
    return []

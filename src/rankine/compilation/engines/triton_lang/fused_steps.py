"""Launches of kernels that do several operations of a program at once."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.kernels.attention import (
    History,
    Unit,
    softmax_attention,
    unit_attention,
)
from rankine.compilation.engines.triton_lang.kernels.cross import low_rank_cross
from rankine.compilation.engines.triton_lang.kernels.interaction import dot_interaction
from rankine.compilation.engines.triton_lang.patterns import (
    Cross,
    Interaction,
    Match,
    SoftmaxAttention,
    UnitAttention,
)
from rankine.compilation.engines.triton_lang.placing import Launch, Places
from rankine.compilation.fused.program import ABSENT, Operand, Operation

__all__ = ["fused_launch"]

_BIAS, _QUANT = 1, 3
_FACTOR, _ADDED = 4, 5


def fused_launch(match: Match, places: Places) -> Launch:
    """The kernel of what was found."""
    match match:
        case Cross():
            return _cross(match, places)
        case Interaction():
            return _interaction(match, places)
        case UnitAttention():
            return _unit_attention(match, places)
        case SoftmaxAttention():
            return _softmax_attention(match, places)
    raise NotImplementedError(type(match).__name__)


def _cross(match: Cross, places: Places) -> Launch:
    held = places.held
    operations = held.program.operations
    down, up = operations[match.down], operations[match.up]
    rank, width = up.dims[:2]
    source, first, added = (
        places.matrix(operand, width) for operand in (down.operands[2], up.operands[_FACTOR], up.operands[_ADDED])
    )
    target, codes = (_given(places, up, slot, width) for slot in (0, 1))
    run = partial(
        low_rank_cross,
        down=held.layers[match.down],
        up=held.layers[match.up],
        bias=held.array(up, _BIAS, width),
        quant=held.array(up, _QUANT, width),
        zero=up.numbers[0],
        between_bias=held.array(down, _BIAS, rank),
        between_quant=held.array(down, _QUANT, rank),
        between_zero=down.numbers[0],
        first=first,
        added=added,
        target=target,
        codes=codes,
    )
    return lambda rows: run(source[:rows])


def _given(places: Places, operation: Operation, slot: int, width: int) -> torch.Tensor | None:
    operand = operation.operands[slot]
    return None if operand.buffer == ABSENT else places.matrix(operand, width)


def _interaction(match: Interaction, places: Places) -> Launch:
    columns = torch.tensor(match.columns, device=places.held.device)
    vectors = places.matrix(match.vectors, len(columns) * match.width)
    target = places.matrix(match.target, int((match.columns >= 0).sum()))
    form = places.held.form
    return lambda rows: dot_interaction(vectors[:rows], columns, target, width=match.width, form=form)


def _unit_attention(match: UnitAttention, places: Places) -> Launch:
    held, operations = places.held, places.held.program.operations

    def numbers(array: np.ndarray | None) -> torch.Tensor | None:
        return None if array is None else torch.tensor(array, dtype=torch.float32, device=held.device)

    def bias(at: int, width: int) -> torch.Tensor | None:
        return held.array(operations[at], _BIAS, width)

    first, second = match.first, match.second
    hidden = held.layers[first.at].width
    unit = Unit(
        first=held.layers[first.at],
        blocks=match.blocks,
        last=held.column(operations[match.last]),
        last_bias=bias(match.last, 1),
        bias=bias(first.at, hidden),
        kind=first.kind,
        slope=numbers(first.slope),
        quant=match.quant[0] if match.quant else 1.0,
        zero=match.quant[1] if match.quant else 0.0,
        second=None if second is None else held.layers[second.at],
        second_bias=None if second is None else bias(second.at, held.layers[second.at].width),
        second_kind=0 if second is None else second.kind,
        second_slope=None if second is None else numbers(second.slope),
        second_quant=numbers(first.quant),
        second_zero=first.zero,
    )
    query, target = places.matrix(match.query, match.width), places.matrix(match.target, match.width)
    of_query = None if match.of_query is None else places.matrix(match.of_query, hidden)
    of_history = None if match.of_history is None else _owned(places, match.of_history, match.length * hidden)
    history = _history(match, places)
    return lambda rows: unit_attention(query[:rows], history, unit, target, of_query=of_query, of_history=of_history)


def _softmax_attention(match: SoftmaxAttention, places: Places) -> Launch:
    query, target = places.matrix(match.query, match.width), places.matrix(match.target, match.width)
    history = _history(match, places)
    return lambda rows: softmax_attention(query[:rows], history, target, scale=match.scale, fill=match.fill)


def _history(match: UnitAttention | SoftmaxAttention, places: Places) -> History:
    """By request, where that is how it came."""
    keys = _owned(places, match.keys, match.length * match.width)
    lengths = None if match.lengths is None else _owned(places, match.lengths, 1)[:, 0]
    is_shared = places.requests is not None and match.keys in places.requests.starts
    index = places.requests.index if places.requests is not None and is_shared else None
    return History(keys, match.length, lengths, index)


def _owned(places: Places, operand: Operand, width: int) -> torch.Tensor:
    shared = places.shared(operand, width)
    return places.matrix(operand, width) if shared is None else shared

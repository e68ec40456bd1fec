"""The best candidates of each request, found on the device with the last layer.

Nothing that is served comes here: tests alone call it, and ``benchmarks/gpu.py`` times its kernel. Serving ranks by an
expression over all tasks, which the host computes from the logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.kernels.top import MOST_CANDIDATES, top_scores
from rankine.compilation.engines.triton_lang.placing import DeviceProgram, Places
from rankine.compilation.fused.program import ABSENT, Code, Operation
from rankine.errors import EngineError

__all__ = ["Best", "BestOf"]

_BIAS = 1


@dataclass(frozen=True)
class Best:
    """Of the requests that a batch's rows are of, in their order.

    Attributes:
        requests: int32 ``(n,)``: which of the batch's.
        scores: float32 ``(n, k)``, probabilities, best first; NaN behind a request's last candidate.
        rows: int32 ``(n, k)``: rows of the batch that have them, of equal scores the first; -1 behind the last.
    """

    requests: np.ndarray
    scores: np.ndarray
    rows: np.ndarray


class BestOf:
    """Which rows are of which request.

    Args:
        request_index: int32 ``(rows,)``, with the rows of a request side by side.
        count: of candidates that are wanted of each.

    Raises:
        EngineError: rows of a request lie apart, or are more than a kernel takes.
    """

    def __init__(self, request_index: np.ndarray, count: int) -> None:
        starts = np.flatnonzero(np.diff(request_index, prepend=request_index[:1] - 1))
        self._requests, self._count = request_index[starts], count
        self._offsets = np.append(starts, len(request_index)).astype(np.int32)
        self._most = int(np.diff(self._offsets).max(initial=0))
        if len(np.unique(self._requests)) != len(self._requests):
            raise EngineError("rows of a request lie apart", where="request_index", allowed="those of one side by side")
        if self._most > MOST_CANDIDATES or count < 1:
            got, allowed = f"{self._most} candidates, of which {count}", f"up to {MOST_CANDIDATES}, of which 1 or more"
            raise EngineError("the best of a request are not found on the device", got=got, allowed=allowed)

    @staticmethod
    def does_last(held: DeviceProgram) -> bool:
        """Whether a program ends in a layer of one column that the kernel does itself; else it reads the logits."""
        last = _last(held)
        is_layer = last.code is Code.LINEAR_F32 and last.groups == 1 and last.dims[1] == 1 and not last.kind
        is_alone = all(last.operands[slot].buffer == ABSENT for slot in (1, 3, 4, 5))
        is_unfused = len(held.program.operations) - 1 not in held.fusion.matches
        return is_layer and is_alone and is_unfused and last.operands[0] == held.program.output

    def found(self, places: Places) -> Best:
        """What the kernel finds, where all before the last layer has run."""
        held, bias = places.held, 0.0
        if self.does_last(held):
            last = _last(held)
            source, weight = places.matrix(last.operands[2], last.dims[0]), held.column(last)
            given = held.array(last, _BIAS, 1)
            bias = 0.0 if given is None else float(given[0])
        else:
            source, weight = places.matrix(held.program.output, 1), torch.ones(1, device=held.device)
        requests = len(self._requests)
        scores = torch.empty((requests, self._count), device=held.device)
        places_found = torch.empty((requests, self._count), dtype=torch.int32, device=held.device)
        offsets = torch.from_numpy(self._offsets).to(held.device)
        top_scores(source, weight, bias, offsets, self._most, scores, places_found)
        rows = places_found.cpu().numpy()
        return Best(self._requests, scores.cpu().numpy(), np.where(rows < 0, -1, rows + self._offsets[:-1, None]))


def _last(held: DeviceProgram) -> Operation:
    return held.program.operations[-1]

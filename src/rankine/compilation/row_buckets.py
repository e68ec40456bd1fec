"""Fixed numbers of rows: a batch is padded to one that an engine was built for, a larger one runs in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.compilation.host_runner import InputBuffers
from rankine.compilation.lookup import DType

__all__ = ["ROW_BUCKETS", "BucketLane", "bucket_parts"]

ROW_BUCKETS = (1, 16, 64, 256, 1024)
"""What an accelerator with fixed shapes is built for where the target names nothing."""


class BucketLane:
    """Buffers of one call, padded to numbers of rows that there are: a :class:`~rankine.compilation.host_runner.Lane`.

    Args:
        runs: by their rows: each takes the inputs, ``(its rows, width)``, and returns logits ``(its rows, tasks)``.
        arrays: width and type of each input.
    """

    def __init__(
        self, runs: Mapping[int, Callable[[Sequence[np.ndarray]], np.ndarray]], arrays: Sequence[tuple[int, DType]]
    ) -> None:
        self._runs, self._buckets = runs, sorted(runs)
        self._buffers = InputBuffers(arrays)

    def inputs(self, rows: int) -> Sequence[np.ndarray]:
        return tuple(view[:rows] for view in self._buffers.views(sum(bucket_parts(rows, self._buckets))))

    def execute(self, rows: int, out: np.ndarray) -> None:
        parts, start = bucket_parts(rows, self._buckets), 0
        views = self._buffers.views(sum(parts))
        for bucket in parts:
            end = min(start + bucket, rows)
            logits = self._runs[bucket]([view[start : start + bucket] for view in views])
            np.copyto(out[start:end], logits[: end - start])
            start = end


def bucket_parts(rows: int, buckets: Sequence[int]) -> list[int]:
    """Buckets that hold ``rows`` rows, one after the other: the largest, then the least that holds the rest.

    Args:
        buckets: ascending.
    """
    whole, rest = divmod(rows, buckets[-1])
    return [buckets[-1]] * whole + ([next(one for one in buckets if one >= rest)] if rest else [])

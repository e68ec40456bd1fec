"""What the values inside a graph are on calibration rows: ranges by column, histograms, and a sample of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankine.errors import DataError

if TYPE_CHECKING:
    import onnx

__all__ = ["Observed", "column_ranges", "observe"]

_BINS = 2048
_SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class Observed:
    """A value of the graph on the calibration rows.

    Attributes:
        low, high: its range, with zero in it.
        counts: int64 ``(2048,)``, how many values lie in each of as many equal parts of the range.
        sample: float32 ``(n, width)``, some of its vectors.
        positions: of the value for one row of the batch: 1, or the length of a sequence.
    """

    low: float
    high: float
    counts: np.ndarray
    sample: np.ndarray
    positions: int

    @property
    def edges(self) -> np.ndarray:
        """Float64 ``(2049,)``."""
        edges: np.ndarray = np.linspace(self.low, self.high, _BINS + 1)
        return edges

    @property
    def centers(self) -> np.ndarray:
        """Float32 ``(2048,)``; zero in the part that holds it, where most of a ReLU's values lie exactly there."""
        edges = self.edges
        middle: np.ndarray = (edges[:-1] + edges[1:]) / 2
        middle[(edges[:-1] <= 0) & (edges[1:] >= 0)] = 0
        centers: np.ndarray = middle.astype(np.float32)
        return centers


def column_ranges(
    model: onnx.ModelProto, values: Sequence[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The largest magnitude in each last-axis column of ``values``, float32 ``(columns,)``.

    Raises:
        DataError: a value is not finite.
    """
    found: dict[str, np.ndarray] = {}
    for part in _parts(model, values, inputs):
        for name, array in part.items():
            largest = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], largest) if name in found else largest
    return found


def observe(model: onnx.ModelProto, values: Sequence[str], inputs: Mapping[str, np.ndarray]) -> dict[str, Observed]:
    """What ``values`` are on the rows of ``inputs``, in two passes: ranges, then histograms.

    Args:
        model: FP32.
        values: names of values in the graph, or of its inputs.
        inputs: float32 ``(rows, width)`` per graph input.

    Raises:
        DataError: a value is not finite.
    """
    ranges: dict[str, tuple[float, float]] = dict.fromkeys(values, (0.0, 0.0))
    for part in _parts(model, values, inputs):
        for name, array in part.items():
            low, high = ranges[name]
            ranges[name] = min(low, float(array.min())), max(high, float(array.max()))
    rows = len(next(iter(inputs.values())))
    counts = {name: np.zeros(_BINS, np.int64) for name in values}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in values}
    for part in _parts(model, values, inputs):
        for name, array in part.items():
            low, high = ranges[name]
            counts[name] += np.histogram(array, _BINS, (low, high if high > low else low + 1))[0]
            flat = array.reshape(-1, array.shape[-1])
            every = max(rows * math.prod(array.shape[1:-1]) // _SAMPLE_ROWS, 1)
            samples[name].append(flat[::every].copy())
    return {name: _observed(ranges[name], counts[name], np.concatenate(samples[name]), rows) for name in counts}


def _observed(ends: tuple[float, float], counts: np.ndarray, sample: np.ndarray, rows: int) -> Observed:
    # From what was counted, not from the shape: positions may be an axis of their own, or lie in that of the rows.
    positions = max(int(counts.sum()) // (rows * sample.shape[1]), 1)
    return Observed(*ends, counts, sample, positions)


def _parts(
    model: onnx.ModelProto, values: Sequence[str], inputs: Mapping[str, np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    """``values`` on the rows of ``inputs``, some rows at a time."""
    from rankine.models.onnx_session import feeds, tapped_session

    inside = [name for name in dict.fromkeys(values) if name not in inputs]
    session = tapped_session(model, inside)
    for part in feeds(inputs):
        found = dict(zip(inside, session.run(inside, part), strict=True)) if inside else {}
        found |= {name: part[name] for name in values if name in part}
        for name, array in found.items():
            if not np.isfinite(array).all():
                raise DataError(
                    "a value inside the graph is not finite on calibration rows",
                    where=name,
                    got=f"{int((~np.isfinite(array)).sum())} of {array.size} values",
                    hint="Look for missing or huge values in the dense features, or for a division by zero.",
                )
        yield found

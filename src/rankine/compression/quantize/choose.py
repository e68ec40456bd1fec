"""One range for every value that INT8 layers read: by a method, or by the measured error of what the layers give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from rankine.compression.quantize.layers import Layer
from rankine.compression.quantize.observe import Observed
from rankine.compression.quantize.ranges import CANDIDATES, Range, candidates
from rankine.compression.quantize.weights import rounded_weight

if TYPE_CHECKING:
    from rankine.models.rewrite.graph import Graph

__all__ = ["Chosen", "Method", "choose_ranges"]

Method = Literal["auto", "minmax", "percentile", "entropy", "mse"]


@dataclass(frozen=True)
class Chosen:
    """The range of a value.

    Attributes:
        method: that it came from.
        error: mean squared error of what the layers give that read it, relative to its mean square, the sum over
            these layers; on calibration rows.
    """

    range: Range
    method: str
    error: float


def choose_ranges(
    graph: Graph, layers: Sequence[Layer], observed: Mapping[str, Observed], method: Method
) -> dict[str, Chosen]:
    """The range of each value that ``layers`` read, by name.

    ``auto`` takes the candidate with the smallest ``||X W - Q(X) Q(W)||^2`` on a sample of calibration rows, summed
    over the layers that read the value; the first among equals.
    """
    chosen = {}
    for source in dict.fromkeys(layer.source for layer in layers):
        readers = [layer.matrix(graph) for layer in layers if layer.source == source]
        found = observed[source]
        options: dict[str, Range] = candidates(found) if method == "auto" else {method: CANDIDATES[method](found)}
        errors = _errors(found.sample, readers, options)
        best = min(options, key=lambda name: errors[name])
        chosen[source] = Chosen(options[best], best, errors[best])
    return chosen


def _errors(sample: np.ndarray, weights: Sequence[np.ndarray], options: Mapping[str, Range]) -> dict[str, float]:
    """The relative error of the layers' outputs for each range."""
    errors = dict.fromkeys(options, 0.0)
    rounded = {name: option.rounded(sample) for name, option in options.items()}
    for weight in weights:
        exact, quantized = sample @ weight, rounded_weight(weight)
        size = float(np.square(exact).mean())
        for name, values in rounded.items():
            error = float(np.square(values @ quantized - exact).mean())
            errors[name] += error / size if size > 0 else 0.0
    return errors

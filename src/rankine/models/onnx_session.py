"""ONNX Runtime as the stages before compilation use it: to score a graph on rows, or to look at values inside of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["feeds", "open_session", "tapped_session"]

_ERRORS_ONLY = 3


def open_session(model: onnx.ModelProto | bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph, opened on the processor; ``threads`` of 0 takes all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    given = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def tapped_session(model: onnx.ModelProto, values: Sequence[str], *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph with these values inside of it among its outputs, in this order, after its own."""
    import onnx

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    already = {value.name for value in (*tapped.graph.output, *tapped.graph.input)}
    wanted = [name for name in values if name not in already]
    tapped.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    return open_session(tapped, threads=threads)


def feeds(inputs: Mapping[str, np.ndarray], rows: int = 1024) -> Iterator[dict[str, np.ndarray]]:
    """The inputs in parts of at most so many rows."""
    total = len(next(iter(inputs.values())))
    for start in range(0, total, rows):
        yield {name: values[start : start + rows] for name, values in inputs.items()}

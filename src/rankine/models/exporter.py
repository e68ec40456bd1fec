"""What every call of PyTorch's ONNX exporter needs here: quiet, and inputs with the names that they must have."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx

__all__ = ["PLACEHOLDER", "name_inputs", "quiet_exporter"]

PLACEHOLDER = "input."
"""Prefix of the names that inputs have until :func:`name_inputs`; no parameter's name has a dot."""


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter warns of its own internals; those are not for a user to act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.|copyreg|onnxscript\.")
            # Of recurrent layers, whose list of weights is rebuilt in export; blamed on contextlib.
            warnings.filterwarnings("ignore", message="The tensor attributes .* were assigned during export")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def name_inputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Give the inputs ``input.0``, ``input.1``, ... these names; values that have one of them already get another.

    Not left to the exporter: it calls values of its own ``cat`` or ``linear``, which can be parameters' names too.
    """
    renamed = {f"{PLACEHOLDER}{position}": name for position, name in enumerate(names)}
    for node in graph.node:
        renamed |= {value: f"value.{value}" for value in node.output if value in names}
    for tensor in graph.initializer:
        if tensor.name in names:
            renamed[tensor.name] = f"value.{tensor.name}"
            tensor.name = f"value.{tensor.name}"
    for node in graph.node:
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)

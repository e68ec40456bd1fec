"""Export: the dense part of a model as an ONNX graph with dynamic rows; the tables stay outside, as blobs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from rankine.models.zoo.base import RankingModel

__all__ = ["OPSET", "OUTPUT", "export_onnx"]

OPSET = 21
OUTPUT = "logits"
_PLACEHOLDER = "input."  # no feature's name has a dot


def export_onnx(model: RankingModel, path: Path) -> None:
    """Write the dense part of ``model`` to ``path``.

    One float32 input ``(rows, width)`` per feature, named after it, in the order of the schema; output ``logits``
    ``(rows, tasks)``. ``rows`` is dynamic.
    """
    import onnx
    import torch
    from torch import Tensor, nn

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *parts: Tensor) -> Tensor:
            return self.model.dense(parts)

    names = [feature.name for feature in model.schema.features]
    # Two rows or more: a leading dimension of one would be taken for a constant.
    parts = tuple(torch.zeros(4, width) for width in model.widths)
    rows = torch.export.Dim("rows", min=1, max=2**31 - 1)
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            Dense().eval(),
            parts,
            dynamo=True,
            opset_version=OPSET,
            input_names=[f"{_PLACEHOLDER}{position}" for position in range(len(names))],
            output_names=[OUTPUT],
            dynamic_shapes={"parts": tuple({0: rows} for _ in parts)},
            verbose=False,
        )
    proto = program.model_proto
    # The exporter leaves shapes of its own tracing behind, which later rewrites would contradict.
    del proto.graph.value_info[:]
    _name_inputs(proto.graph, names)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _name_inputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Name the inputs after the features.

    Not left to the exporter: it calls values of its own ``cat``, ``linear`` or ``relu``, which can be features' names
    too, and would then give one name to two values.
    """
    renamed = {f"{_PLACEHOLDER}{position}": name for position, name in enumerate(names)}
    for node in graph.node:
        renamed |= {value: f"value.{value}" for value in node.output if value in names}
    for node in graph.node:
        node.input[:] = [renamed.get(value, value) for value in node.input]
        node.output[:] = [renamed.get(value, value) for value in node.output]
    for given in graph.input:
        given.name = renamed[given.name]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns of its own internals; those are not for a user to act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.|copyreg|onnxscript\.")
            yield
    finally:
        logger.setLevel(level)

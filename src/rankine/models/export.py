"""Export: the dense part of a model as an ONNX graph with dynamic rows; the tables stay outside, as blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from rankine.models.zoo.base import RankingModel

__all__ = ["OPSET", "OUTPUT", "export_model"]

OPSET = 21
OUTPUT = "logits"


def export_model(model: RankingModel) -> onnx.ModelProto:
    """The dense part of ``model``.

    One float32 input ``(rows, width)`` per feature, named after it, in the order of the schema; output ``logits``
    ``(rows, tasks)``. ``rows`` is dynamic.
    """
    import onnx
    import torch
    from torch import Tensor, nn

    from rankine.models.exporter import PLACEHOLDER, name_inputs, quiet_exporter

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
    with quiet_exporter():
        program: Any = torch.onnx.export(
            Dense().eval(),
            parts,
            dynamo=True,
            opset_version=OPSET,
            input_names=[f"{PLACEHOLDER}{position}" for position in range(len(names))],
            output_names=[OUTPUT],
            dynamic_shapes={"parts": tuple({0: rows} for _ in parts)},
            verbose=False,
        )
    proto: onnx.ModelProto = program.model_proto
    # The exporter leaves shapes of its own tracing behind, which later rewrites would contradict.
    del proto.graph.value_info[:]
    name_inputs(proto.graph, names)
    onnx.checker.check_model(proto, full_check=True)
    return proto

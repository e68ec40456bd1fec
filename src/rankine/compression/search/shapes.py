"""An untrained reference model as a graph that is only counted and costed, never run."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from rankine.models.network import Network
from rankine.models.tables import Table

if TYPE_CHECKING:
    from rankine.models.zoo.base import RankingModel

__all__ = ["shape_of"]

_TRACING_OPSET = 17


def shape_of(model: RankingModel, rows: int) -> Network:
    """The model as a network for exactly so many rows, by PyTorch's tracing exporter: the same operators as
    :func:`rankine.models.network.network_of` gives, in a hundredth of its time. It keeps no module.

    Traced with fixed rows, so that every shape is a constant. What tracing may get wrong (branches on values) does not
    matter here: the graph is not served.
    """
    import onnx
    import torch
    from torch import Tensor, nn

    from rankine.models.zoo.base import tables_of

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *parts: Tensor) -> Tensor:
            return self.model.dense(parts)

    # A file: the exporter's types know of no buffer.
    with tempfile.TemporaryDirectory(prefix="rankine-shape-") as scratch, warnings.catch_warnings():
        path = Path(scratch) / "graph.onnx"
        warnings.simplefilter("ignore")  # that the exporter is the older one
        torch.onnx.export(
            Dense().eval(),
            tuple(torch.zeros(rows, width) for width in model.widths),
            path,
            dynamo=False,
            opset_version=_TRACING_OPSET,
            input_names=list(model.schema.feature_names),
            output_names=["logits"],
        )
        graph = onnx.load(path)
    tables = {name: Table(weight.numpy()) for name, weight in tables_of(model).items()}
    return Network(model.schema, graph, tables)

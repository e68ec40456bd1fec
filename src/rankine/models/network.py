"""A variant in memory, as compression changes it: the dense graph, the tables, and how large they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankine.artifact import Artifact, Draft
from rankine.config import Frozen
from rankine.models.columns import Batch
from rankine.models.lookup_reference import reference_lookup
from rankine.models.schema import Schema
from rankine.models.variant import (
    AnyTable,
    Numeric,
    QuotientRemainderTable,
    Table,
    Variant,
    load_model,
    write_tables,
)

if TYPE_CHECKING:
    import onnx

    from rankine.models.zoo.base import RankingModel

__all__ = ["Network", "NetworkScorer", "Size", "load_network", "network_of", "put_network", "size_of"]

_SCORE_ROWS = 8192
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Network:
    """A model between two passes of a recipe.

    Attributes:
        schema: its features are the graph's inputs, in this order: those that the model still reads.
        graph: one float32 input ``(rows, width)`` a feature, output ``logits`` ``(rows, tasks)``; never changed in
            place.
        tables: by table name.
        numeric: of the graph.
        module: the reference model that the graph was exported from, as long as nothing has changed since.

    A copy of whatever holds it, such as the moving average of a model that learns, shares it: tables are large.
    """

    schema: Schema
    graph: onnx.ModelProto
    tables: Mapping[str, AnyTable]
    numeric: Numeric = "fp32"
    module: RankingModel | None = None

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Network:
        return self

    def changed(self, *, graph: onnx.ModelProto | None = None, tables: Mapping[str, AnyTable] | None = None) -> Network:
        """The network with another graph or other tables; features that the graph does not read any more are left out,
        and with them the tables that only they read."""
        from rankine.models.transforms import table_of

        graph = graph if graph is not None else self.graph
        tables = tables if tables is not None else self.tables
        read = {value.name for value in graph.graph.input}
        schema = self.schema.model_copy(
            update={"features": tuple(feature for feature in self.schema.features if feature.name in read)}
        )
        used = {table_of(feature) for feature in schema.features if feature.kind != "dense"}
        kept = {name: table for name, table in tables.items() if name in used}
        return replace(self, schema=schema, graph=graph, tables=kept, module=None)


class Size(Frozen):
    """How large a network is.

    Attributes:
        parameters: weights of the dense graph and values of the tables, without the scales that an INT8 form adds.
        macs_per_row: multiply-adds of the dense graph for one row.
        graph_bytes: of the weights in the graph, as they are stored.
        table_bytes: of the tables, scales included.
    """

    parameters: int
    macs_per_row: int
    graph_bytes: int
    table_bytes: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.graph_bytes + self.table_bytes


def size_of(network: Network) -> Size:
    """The size of a network."""
    from rankine.models.macs import count_graph_macs

    weights = network.graph.graph.initializer
    forms = {name for node in network.graph.graph.node if node.op_type in _ROUNDING for name in node.input[1:]}
    return Size(
        parameters=sum(_values(table) for table in network.tables.values())
        + sum(int(np.prod(tensor.dims)) for tensor in weights if tensor.name not in forms),
        macs_per_row=count_graph_macs(network.graph),
        graph_bytes=sum(_stored_bytes(tensor) for tensor in weights),
        table_bytes=sum(table.size_bytes for table in network.tables.values()),
    )


class NetworkScorer:
    """Scores rows with a network's graph, FP32 or INT8, in ONNX Runtime."""

    def __init__(self, network: Network, *, threads: int = 0) -> None:
        from rankine.models.onnx_session import open_session

        self._schema, self._tables = network.schema, network.tables
        self._session = open_session(network.graph, threads=threads)

    def logits(self, batch: Batch) -> np.ndarray:
        """Float32 ``(rows, tasks)``."""
        parts = []
        for start in range(0, batch.rows, _SCORE_ROWS):
            part = batch.select(slice(start, start + _SCORE_ROWS))
            parts.append(self._session.run(["logits"], self.inputs(part))[0])
        tasks = len(self._schema.tasks)
        return np.concatenate(parts) if parts else np.zeros((0, tasks), np.float32)

    def inputs(self, batch: Batch) -> dict[str, np.ndarray]:
        """What the graph reads for a batch: float32 ``(rows, width)`` a feature."""
        return dict(reference_lookup(self._schema, self._tables, batch, np.float32))


def network_of(model: RankingModel) -> Network:
    """A reference model as a network."""
    from rankine.models.export import export_model
    from rankine.models.zoo.base import tables_of

    tables = {name: Table(weight.numpy()) for name, weight in tables_of(model).items()}
    return Network(model.schema, export_model(model), tables, module=model)


def load_network(artifact: Artifact, name: str) -> Network:
    """A variant of an artifact; its tables are memory-mapped."""
    import onnx

    from rankine.models.checkpoint import is_trainable, load_checkpoint

    model = load_model(artifact, name)
    module = load_checkpoint(model.checkpoint) if is_trainable(model) and model.checkpoint is not None else None
    return Network(model.schema, onnx.load(model.graph), model.tables, model.numeric, module)


def put_network(
    draft: Draft,
    network: Network,
    *,
    name: str,
    parent: str | None,
    steps: tuple[str, ...],
    validation_auc: float | None,
    details: Mapping[str, Any],
) -> Variant:
    """Put ``network`` into ``draft`` as the variant ``name``, with its checkpoint where it is a reference model."""
    import onnx

    from rankine.models.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory(prefix="rankine-network-") as scratch:
        graph = Path(scratch) / "graph.onnx"
        onnx.checker.check_model(network.graph, full_check=True)
        onnx.save(network.graph, graph)
        draft.put_file(f"variants/{name}/graph.onnx", graph)
        if network.module is not None:
            save_checkpoint(network.module, network.module.config, Path(scratch) / "checkpoint")
            draft.put_folder(f"variants/{name}/checkpoint", Path(scratch) / "checkpoint")
    variant = Variant(
        name=name,
        parent=parent,
        numeric=network.numeric,
        steps=steps,
        macs_per_row=size_of(network).macs_per_row,
        features=network.schema.feature_names,
        tables=write_tables(draft, name, network.tables),
        validation_auc=validation_auc,
        details=details,
    )
    draft.put_json(f"variants/{name}/variant.json", variant)
    return variant


def _values(table: AnyTable) -> int:
    """Values that a table stores, not those that it can be asked for."""
    if isinstance(table, QuotientRemainderTable):
        return _values(table.quotient) + _values(table.remainder)
    return table.count * table.dim


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    from onnx import numpy_helper

    return int(numpy_helper.to_array(tensor).nbytes)

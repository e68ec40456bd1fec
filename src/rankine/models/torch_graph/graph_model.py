"""A network as a PyTorch module: its graph node by node, its weights and tables as parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from rankine.errors import UsageError
from rankine.models.inputs import TorchInput, TorchInputs
from rankine.models.network import Network
from rankine.models.schema import DenseFeature, Feature
from rankine.models.torch_graph.steps import Step, node_attribute, step_of, unknown_operators
from rankine.models.torch_graph.trained_table import TrainedTable, trained_table
from rankine.models.torch_lookup import look_up
from rankine.models.transforms import table_of

__all__ = ["GraphModel", "Tap", "untrainable"]

Tap = Callable[[Tensor], Tensor]
"""What a value of the graph or a weight is replaced by while the graph runs: a gate, a fake quantization."""

_WEIGHTED = frozenset(
    ("Add", "BatchNormalization", "Conv", "Einsum", "Gemm", "LayerNormalization", "MatMul", "Mul", "PRelu", "Sub")
)
_STATISTICS = {"BatchNormalization": (3, 4)}
"""Inputs of a node that are not trained: the running mean and variance."""


def untrainable(network: Network) -> str | None:
    """Why a network cannot be trained, in a few words; None where it can be."""
    if network.numeric != "fp32":
        return "its graph is INT8 already"
    unknown = unknown_operators(network.graph.graph.node)
    return f"there is no gradient here for {', '.join(unknown)}" if unknown else None


class GraphModel(nn.Module):
    """Tables, then the graph: ``forward(inputs) = dense(embed(inputs))``, as a reference model's.

    Weights are what linear layers, products, sums and normalizations read as constants of more than one value. What is
    not needed in inference, such as dropout, is not in an exported graph.

    Attributes:
        schema: of the network.
        taps: by name of a value of the graph, what it is replaced by while the graph runs; also names of inputs.
        weight_taps: by name of a constant of the graph that is trained.

    Raises:
        UsageError: an operator has no gradient here.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        reason = untrainable(network)
        if reason is not None:
            raise UsageError(
                "the model cannot be trained further",
                where="graph",
                got=reason,
                hint="Leave passes that train out of the recipe: 'quantize' without 'tune' needs the graph only.",
            )
        self.network = network
        self.schema = network.schema
        self.taps: dict[str, Tap] = {}
        self.weight_taps: dict[str, Tap] = {}
        self.tables = nn.ModuleDict({_key(name): trained_table(table) for name, table in network.tables.items()})
        constants = _constants(network.graph)
        trained = _trained(network.graph, constants)
        self._weight_names = {name: f"weight_{position}" for position, name in enumerate(trained)}
        self.weights = nn.ParameterDict(
            {key: nn.Parameter(torch.from_numpy(constants[name].copy())) for name, key in self._weight_names.items()}
        )
        self._constants = {
            name: torch.from_numpy(values.copy()) for name, values in constants.items() if name not in trained
        }
        self._steps = tuple(step_of(node) for node in network.graph.graph.node if node.op_type != "Constant")
        self._last_use = _last_uses(self._steps)

    def embed(self, inputs: TorchInputs) -> list[Tensor]:
        """Float32 ``(rows, width)`` per feature, in the order of the schema."""
        return [self._embed(feature, inputs[feature.name]) for feature in self.schema.features]

    def dense(self, parts: Sequence[Tensor]) -> Tensor:
        """Logits ``(rows, tasks)`` from one float32 ``(rows, width)`` tensor per feature."""
        values: dict[str, Tensor | None] = dict(self._constants)
        values |= {name: _tapped(self.weight_taps, name, self.weights[key]) for name, key in self._weight_names.items()}
        for feature, part in zip(self.schema.features, parts, strict=True):
            values[feature.name] = _tapped(self.taps, feature.name, part)
        for number, step in enumerate(self._steps):
            given = [values[name] if name else None for name in step.inputs]
            found = step.run(step.attributes, *given)
            for name, value in zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False):
                values[name] = _tapped(self.taps, name, value)
            for name in self._last_use.get(number, ()):
                values[name] = None
        return cast(Tensor, values["logits"])

    def forward(self, inputs: TorchInputs) -> Tensor:
        return self.dense(self.embed(inputs))

    def to_network(self) -> Network:
        """The network with the weights as they are now."""
        graph = onnx.ModelProto()
        graph.CopyFrom(self.network.graph)
        trained = {name: self.weights[key].detach().numpy() for name, key in self._weight_names.items()}
        _set_constants(graph, trained)
        tables = {name: self._table(name).to_table() for name in self.network.tables}
        return self.network.changed(graph=graph, tables=tables)

    def weight(self, name: str) -> nn.Parameter | None:
        """The parameter behind a constant of the graph; None where it is not trained."""
        key = self._weight_names.get(name)
        return None if key is None else self.weights[key]

    def _table(self, name: str) -> TrainedTable:
        return cast(TrainedTable, self.tables[_key(name)])

    def _embed(self, feature: Feature, value: TorchInput) -> Tensor:
        if isinstance(feature, DenseFeature):
            return look_up(feature, value, None)
        return self._table(table_of(feature)).look_up(feature, value)


def _tapped(taps: Mapping[str, Tap], name: str, value: Tensor) -> Tensor:
    tap = taps.get(name)
    return value if tap is None else tap(value)


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = np.asarray(node_attribute(node.attribute[0]))
    return found


def _trained(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> list[str]:
    """Names of the constants that are weights."""
    found: dict[str, bool] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in constants:
                read = node.op_type in _WEIGHTED and position not in _STATISTICS.get(node.op_type, ())
                found[name] = read and found.get(name, True)
    return [
        name
        for name, read in found.items()
        if read and constants[name].dtype == np.float32 and constants[name].size > 1
    ]


def _last_uses(steps: Sequence[Step]) -> dict[int, tuple[str, ...]]:
    """Values that no later step reads, by step: without a gradient their memory is free for the next ones."""
    last = {name: number for number, step in enumerate(steps) for name in step.inputs if name}
    found: dict[int, list[str]] = {}
    for name, number in last.items():
        if name != "logits":
            found.setdefault(number, []).append(name)
    return {number: tuple(names) for number, names in found.items()}


def _set_constants(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in values:
            tensor = numpy_helper.from_array(np.ascontiguousarray(values[node.output[0]]))
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _key(table: str) -> str:
    """Parameter names must not have dots, which a table's name may."""
    return "table_" + table.replace(".", "__dot__")

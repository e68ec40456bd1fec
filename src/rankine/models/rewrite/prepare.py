"""A model as the rewrite takes it: inlined, at the project's opset, inputs checked against the call, names apart."""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx.version_converter

from rankine.errors import did_you_mean
from rankine.models.arguments import check_call
from rankine.models.call import Argument
from rankine.models.export import OPSET, OUTPUT
from rankine.models.rewrite.branches import settle_branches
from rankine.models.rewrite.errors import RewriteError, place
from rankine.models.rewrite.graph import Graph, numbered, reads, renamed
from rankine.models.rewrite.sequences import settle_sequences
from rankine.models.schema import Schema

__all__ = ["KNOWN_DOMAINS", "prepare"]

KNOWN_DOMAINS = ("", "ai.onnx")
EMBEDDING_BAG = ("rankine", "EmbeddingBag")
_LARGE = 4096
"""Initializers of more elements are kept out of the opset converter, which copies and is limited to 2 GB."""


def prepare(model: onnx.ModelProto, schema: Schema) -> Graph:
    """The graph of a model; its inputs are named ``argument/<name>``, and no value has a feature's name.

    Raises:
        RewriteError: the graph's inputs are not those of the call, rows are fixed, or an operator is unknown.
    """
    if schema.call is None:
        hint = "Write under 'call' which input of the graph holds which feature."
        raise RewriteError("the schema does not say how the model is called", where="call", hint=hint)
    check_call(schema.call, schema)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _check_operators(model)
    model = _at_opset(model)
    graph = Graph.read(model)
    graph.prune()
    _check_inputs(graph, {argument.name: argument for argument in schema.call.arguments})
    _keep_names_apart(graph, schema)
    graph.fold()
    settle_branches(graph, schema)
    settle_sequences(graph)
    return graph


def _check_operators(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) != EMBEDDING_BAG:
            raise RewriteError(
                f"the operator '{node.domain}.{node.op_type}' is not one of ONNX",
                where=place(node),
                allowed="operators of the domain ai.onnx, and rankine.EmbeddingBag",
                hint="Export the model without this operator: an optimized or quantized file has an original.",
            )


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    versions = [entry.version for entry in model.opset_import if entry.domain in KNOWN_DOMAINS]
    if versions == [OPSET]:
        return model
    small, large = _without_large(model)
    try:
        converted = onnx.version_converter.convert_version(small, OPSET)
    except (RuntimeError, ValueError) as error:
        raise RewriteError(
            f"the graph cannot be brought from opset {max(versions, default=0)} to {OPSET}",
            got=str(error).strip().splitlines()[-1],
            hint=f"Export the model with opset {OPSET}.",
        ) from None
    kept = [value for value in converted.graph.input if value.name not in large]
    del converted.graph.input[:]
    converted.graph.input.extend(kept)
    converted.graph.initializer.extend(large.values())
    return converted


def _without_large(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """The model with large initializers as inputs, and these initializers."""
    large, small = {}, onnx.ModelProto(ir_version=max(model.ir_version, 10))
    small.opset_import.extend(model.opset_import)
    small.graph.name = model.graph.name
    small.graph.node.extend(model.graph.node)
    small.graph.input.extend(model.graph.input)
    small.graph.output.extend(model.graph.output)
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        size = 1
        for dimension in tensor.dims:
            size *= dimension
        if size <= _LARGE:
            small.graph.initializer.append(tensor)
            continue
        large[tensor.name] = tensor
        if tensor.name not in given:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            small.graph.input.append(value)
    return small, large


def _check_inputs(graph: Graph, arguments: dict[str, Argument]) -> None:
    read = {name for node in graph.nodes for name in reads(node)}
    graph.inputs = [value for value in graph.inputs if value.name in read or value.name in arguments]
    names = [value.name for value in graph.inputs]
    for name in names:
        if name not in arguments:
            hint = did_you_mean(name, arguments)
            raise RewriteError(f"the call has no argument for the graph's input '{name}'", where="call", hint=hint)
    # An argument that the exporter dropped since nothing reads it is no error; one whose name is wrong is.
    if not set(names) & set(arguments):
        got = numbered(arguments)
        raise RewriteError("no argument is an input of the graph", where="call", got=got, hint=did_you_mean("", names))
    for value in graph.inputs:
        shape = value.type.tensor_type.shape.dim
        argument = arguments[value.name]
        if len(shape) and shape[0].HasField("dim_value") and argument.form not in ("values", "weights"):
            raise RewriteError(
                f"the input '{value.name}' has a fixed number of rows",
                got=f"{shape[0].dim_value}",
                hint="Export the model with dynamic rows (torch.onnx.export: dynamic_shapes={...: {0: Dim('rows')}}).",
            )


def _keep_names_apart(graph: Graph, schema: Schema) -> None:
    """Name inputs ``argument/...``, and values that have the name of a feature or of the output ``value/...``."""
    taken = {feature.name for feature in schema.features} | {OUTPUT}
    names = {value.name: f"argument/{value.name}" for value in graph.inputs}
    values = {name for node in graph.nodes for name in node.output} | set(graph.constants)
    names |= {name: f"value/{name}" for name in values & taken}
    graph.nodes = [renamed(node, names) for node in graph.nodes]
    for node in graph.nodes:
        node.domain = "" if node.domain == "ai.onnx" else node.domain  # two names of one domain
    graph.constants = {names.get(name, name): values for name, values in graph.constants.items()}
    graph.outputs = [names.get(name, name) for name in graph.outputs]
    inputs = []
    for value in graph.inputs:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.name = names[value.name]
        inputs.append(copy)
    graph.inputs = inputs

"""ONNX files from any framework: weights beside the file, and a number of rows that the file may have fixed."""

from __future__ import annotations

from pathlib import Path

import onnx

from rankine.models.arguments import argument_dtype
from rankine.models.call import Call
from rankine.models.intake.refusal import ModelError, first_line
from rankine.models.schema import Schema

__all__ = [
    "check_inputs",
    "default_onnx_call",
    "describe_value",
    "dtype_of",
    "fixed_inside",
    "graph_inputs",
    "read_onnx",
    "read_tables",
]

_ROWS = "rows"
_DTYPES: dict[int, str] = {
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.BOOL: "bool",
}


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in ``path`` with its weights, also those in files beside it.

    Raises:
        ModelError: it is no ONNX file, or a file with its weights is missing.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        if not path.is_file():
            raise ModelError("no such file", where=str(path), allowed="an .onnx file") from None
        raise _no_weights(path, error) from error
    except (OSError, onnx.checker.ValidationError) as error:
        raise _no_weights(path, error) from error
    except Exception as error:  # protobuf's own, which has no types
        raise _unreadable(path, first_line(error)) from error
    if not model.graph.output:
        raise _unreadable(path, "a file without a graph")
    return model


def graph_inputs(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """The inputs of a graph by name, without those that only name weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {value.name: value for value in model.graph.input if value.name not in weights}


def describe_value(value: onnx.ValueInfoProto) -> str:
    """Type and shape of an input or output, such as ``int64 (rows, 3)``."""
    kind = value.type.tensor_type
    sizes = [size.dim_param or (str(size.dim_value) if size.HasField("dim_value") else "?") for size in kind.shape.dim]
    name = _DTYPES.get(kind.elem_type) or onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    return f"{name} ({', '.join(sizes)})" if kind.HasField("shape") else name


def read_tables(model: onnx.ModelProto) -> dict[str, tuple[int, int, int]]:
    """Rows, dimension and bytes of the constant matrices that are read by index, or by an embedding bag."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        tensor = weights.get(node.input[0]) if node.op_type in ("Gather", "GatherND", "EmbeddingBag") else None
        if tensor is not None and len(tensor.dims) == 2:
            rows, dim = tensor.dims
            found[tensor.name] = (rows, dim, rows * dim * _item_bytes(tensor))
    return found


def _item_bytes(tensor: onnx.TensorProto) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def default_onnx_call(model: onnx.ModelProto, schema: Schema) -> Call:
    """Every input is the feature of its name: what is meant where the schema has no ``call``.

    Raises:
        ModelError: an input is no feature, a feature no input, or a feature is a list.
    """
    inputs = graph_inputs(model)
    names = {feature.name for feature in schema.features}
    if set(inputs) != names or any(f.kind in ("multi_hot", "sequence") for f in schema.features):
        raise ModelError(
            "the schema must say how the model is called",
            where="call",
            got=f"inputs {', '.join(inputs)}; features {', '.join(sorted(names))}",
            hint="Add a 'call' section to the schema; `rankine init` writes a draft of one.",
        )
    arguments = []
    for name, value in inputs.items():
        form = {1: "flat", 2: "column"}.get(len(value.type.tensor_type.shape.dim), "value")
        arguments.append({"name": name, "feature": name, "form": form, "dtype": dtype_of(value)})
    return Call.model_validate({"arguments": arguments})


def dtype_of(value: onnx.ValueInfoProto) -> str:
    """The type of an input as a call names it.

    Raises:
        ModelError: it is a type that no argument has.
    """
    kind = value.type.tensor_type.elem_type
    if kind not in _DTYPES:
        got = onnx.TensorProto.DataType.Name(kind)
        raise ModelError(
            "takes a type that no feature has", where=value.name, got=got, allowed=", ".join(_DTYPES.values())
        )
    return _DTYPES[kind]


def check_inputs(model: onnx.ModelProto, call: Call, schema: Schema, path: Path) -> onnx.ModelProto:
    """Hold the graph's inputs to the call's arguments, and make their number of rows dynamic.

    A fixed number of rows (exporters write the example's) is taken out of the inputs and of what was inferred from
    them; where it is also a constant inside, the proof on other numbers of rows fails.

    Raises:
        ModelError: the names or types differ; says which are there.
    """
    inputs = graph_inputs(model)
    arguments = {argument.name: argument for argument in call.arguments}
    if set(inputs) != set(arguments):
        raise ModelError(
            "takes other inputs than the schema's call has",
            where=str(path),
            got=", ".join(sorted(set(arguments) - set(inputs))) or f"nothing for {', '.join(sorted(inputs))}",
            allowed=", ".join(inputs),
            hint="Name every argument under 'call' as the graph names its input.",
        )
    for name, value in inputs.items():
        wanted = argument_dtype(arguments[name], schema).name
        if dtype_of(value) != wanted:
            raise ModelError(
                "has another type",
                where=f"{path}: input '{name}'",
                got=f"{wanted} in the call",
                allowed=dtype_of(value),
                hint=f"Write 'dtype: {dtype_of(value)}' for this argument under 'call'.",
            )
    dynamic = onnx.ModelProto()
    dynamic.CopyFrom(model)
    del dynamic.graph.value_info[:]
    for value in dynamic.graph.input:
        shape = value.type.tensor_type.shape.dim
        if value.name in arguments and len(shape) and shape[0].HasField("dim_value"):
            form = arguments[value.name].form
            shape[0].dim_param = f"{value.name}_values" if form in ("values", "weights") else _rows_of(form)
    for value in dynamic.graph.output:
        shape = value.type.tensor_type.shape.dim
        if len(shape) and shape[0].HasField("dim_value"):
            shape[0].dim_param = _ROWS
    return dynamic


def fixed_inside(model: onnx.ModelProto) -> str | None:
    """The first node that reshapes to the fixed number of rows of a graph's inputs; None where there is none.

    It may be about something else than rows: this explains a failure, it proves none.
    """
    shapes = [value.type.tensor_type.shape.dim for value in graph_inputs(model).values()]
    sizes = {dims[0].dim_value for dims in shapes if len(dims)} - {0}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        for entry in node.attribute:
            if node.op_type == "Constant" and entry.name == "value":
                constants[node.output[0]] = entry.t
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Expand") and node.input[1] in constants:
            shape = onnx.numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()
            if shape and shape[0] in sizes:
                return f"{node.op_type} '{node.name or node.output[0]}' to {shape}"
    return None


def _rows_of(form: str) -> str:
    return "ends" if form == "ends" else _ROWS


def _unreadable(path: Path, got: str) -> ModelError:
    hint = "Export or copy it again; `onnx.checker.check_model` shows the same."
    return ModelError("is not a readable ONNX file", where=str(path), got=got, hint=hint)


def _no_weights(path: Path, error: Exception) -> ModelError:
    hint = "Keep the files with the weights (.data, .onnx_data) in the folder of the .onnx file."
    return ModelError("its weights cannot be read", where=str(path), got=first_line(error), hint=hint)

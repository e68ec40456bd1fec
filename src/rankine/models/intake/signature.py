"""What a model takes, as far as it tells: names, types and shapes of its arguments, and its embedding tables."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_origin

from rankine.models.intake.reference import is_reference, resolve
from rankine.models.intake.refusal import ModelError

if TYPE_CHECKING:
    import onnx
    from torch import fx, nn

__all__ = ["Signature", "Slot", "TableInfo", "read_signature"]

Style = Literal["positional", "keyword", "dict"]


@dataclass(frozen=True)
class Slot:
    """One argument.

    Attributes:
        dtype: as a call names it; None where the model does not tell.
        shape: without the rows; None where the model does not tell.
    """

    name: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TableInfo:
    """An embedding table.

    Attributes:
        name: its path in the model.
        pooling: of an embedding bag, else None.
        last_offset: whether a bag takes the end of the last list too.
        argument: that is looked up in it, where the model tells.
    """

    name: str
    rows: int
    dim: int
    pooling: Literal["sum", "mean", "max"] | None = None
    last_offset: bool = False
    padding: int | None = None
    argument: str | None = None


@dataclass(frozen=True)
class Signature:
    """A model's arguments in their order, and its tables.

    Attributes:
        module: the module itself, where there is one: it can be run to find out more.
        outputs: numbers a row that it gives, where it tells.
    """

    style: Style
    slots: tuple[Slot, ...]
    tables: tuple[TableInfo, ...]
    module: nn.Module | None = None
    outputs: int | None = None


def read_signature(model: str | Path) -> Signature:
    """The signature of ``module:function``, a ``.pt2`` or an ``.onnx`` file.

    Raises:
        ModelError: it cannot be read.
    """
    if isinstance(model, str) and is_reference(model):
        return _of_module(resolve(model))
    path = Path(model)
    match path.suffix:
        case ".onnx":
            return _of_onnx(path)
        case ".pt2":
            return _of_program(path)
    allowed = "module:function, a .pt2 file (torch.export.save) or an .onnx file"
    raise ModelError("is no model that can be read", where=str(model), allowed=allowed)


def _of_module(module: nn.Module) -> Signature:
    from torch import nn

    parameters = list(inspect.signature(module.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
    style: Style = "positional"
    keys: tuple[Slot, ...] = ()
    if len(named) == 1 and _is_mapping(named[0].annotation):
        style, keys, named = "dict", _keys_read(module, named[0].name), []
    elif any(parameter.kind is parameter.KEYWORD_ONLY for parameter in named):
        style = "keyword"
    tables = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding):
            tables.append(TableInfo(name, part.num_embeddings, part.embedding_dim, padding=part.padding_idx))
        elif isinstance(part, nn.EmbeddingBag):
            mode: Any = part.mode
            rows, last = part.num_embeddings, part.include_last_offset
            tables.append(TableInfo(name, rows, part.embedding_dim, mode, last, part.padding_idx))
    required = [p for p in named if p.default is p.empty] or named
    slots = keys or tuple(Slot(parameter.name) for parameter in required)
    return Signature(style, slots, tuple(tables), module)


def _keys_read(module: nn.Module, argument: str) -> tuple[Slot, ...]:
    """The keys of a dictionary, as its ``forward`` writes them: ``batch["user"]`` or ``batch.get("user")``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(module.forward)))
    except (OSError, TypeError, SyntaxError):  # made without a source file
        return ()
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == argument:
                found[key] = None
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[ast.Constant(value=str(key)), *_]
            ):
                found |= {key: None} if name == argument else {}
    return tuple(Slot(key) for key in found)


def _is_mapping(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.lower().startswith(("dict", "mapping"))
    return (get_origin(annotation) or annotation) in (dict, Mapping)


def _of_onnx(path: Path) -> Signature:
    from rankine.models.intake.onnx_file import dtype_of, graph_inputs, read_onnx

    model = read_onnx(path)
    slots = []
    for name, value in graph_inputs(model).items():
        dims = value.type.tensor_type.shape.dim
        known = all(size.HasField("dim_value") for size in dims[1:])
        slots.append(Slot(name, dtype_of(value), tuple(size.dim_value for size in dims[1:]) if known else None))
    sources = _sources(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    tables = []
    for node in model.graph.node:
        tensor = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if tensor is not None and len(tensor.dims) == 2:
            found = sources.get(node.input[1], set())
            argument = next(iter(found)) if len(found) == 1 else None
            tables.append(TableInfo(tensor.name, tensor.dims[0], tensor.dims[1], argument=argument))
    return Signature("positional", tuple(slots), tuple(tables), outputs=_onnx_outputs(model))


def _sources(model: onnx.ModelProto) -> dict[str, set[str]]:
    """The graph's inputs behind every value."""
    from rankine.models.intake.onnx_file import graph_inputs

    found = {name: {name} for name in graph_inputs(model)}
    for node in model.graph.node:
        behind = set().union(*(found.get(name, set()) for name in node.input))
        found |= dict.fromkeys(node.output, behind)
    return found


def _onnx_outputs(model: onnx.ModelProto) -> int:
    sizes = [value.type.tensor_type.shape.dim for value in model.graph.output]
    return sum(size[1].dim_value if len(size) > 1 and size[1].HasField("dim_value") else 1 for size in sizes)


def _of_program(path: Path) -> Signature:
    import torch
    from torch.utils import _pytree as pytree

    from rankine.models.intake.program import load_program

    program = load_program(path)
    inputs = program.graph_signature.user_inputs
    args, kwargs = pytree.tree_unflatten(list(inputs), program.call_spec.in_spec)
    style: Style = "keyword" if kwargs else "dict" if len(args) == 1 and isinstance(args[0], dict) else "positional"
    names = {"keyword": kwargs, "dict": args[0] if args else {}, "positional": {str(name): name for name in inputs}}[
        style
    ]
    nodes = {node.name: node for node in program.graph.nodes}
    slots, by_input = [], {}
    for name, given in names.items():
        value = nodes[str(given)].meta["val"]
        sizes: list[Any] = list(value.shape[1:])
        shape = tuple(sizes) if all(isinstance(size, int) for size in sizes) else None
        slots.append(Slot(name, str(value.dtype).removeprefix("torch."), shape))
        by_input[str(given)] = name
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    width = sum(node.meta["val"].shape[1] if node.meta["val"].dim() > 1 else 1 for node in outputs)
    return Signature(style, tuple(slots), tuple(_program_tables(program, by_input, torch)), outputs=int(width))


def _program_tables(program: Any, by_input: Mapping[str, str], torch: Any) -> list[TableInfo]:
    names = program.graph_signature.inputs_to_parameters
    tables = []
    for node in program.graph.nodes:
        if node.op != "call_function" or not str(node.target).startswith("aten.embedding"):
            continue
        weight, ids = node.args[:2]
        rows, dim = weight.meta["val"].shape
        bag = "embedding_bag" in str(node.target)
        modes: tuple[Literal["sum", "mean", "max"], ...] = ("sum", "mean", "max")
        pooling = modes[node.args[4] if len(node.args) > 4 else 0] if bag else None
        last = bool(bag and len(node.args) > 7 and node.args[7])
        name = names.get(weight.name, weight.name).removesuffix(".weight")
        tables.append(TableInfo(name, int(rows), int(dim), pooling, last, argument=_behind(ids, by_input)))
    return tables


def _behind(node: fx.Node, by_input: Mapping[str, str]) -> str | None:
    """The argument that ids are made of, where it is one alone."""
    found, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current.name in by_input:
            found.add(by_input[current.name])
        waiting += current.all_input_nodes
    return next(iter(found)) if len(found) == 1 else None

"""Exported programs: ``.pt2`` files, and any program as an ONNX graph that takes ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rankine.models.arguments import call_arguments
from rankine.models.call import Call
from rankine.models.export import OPSET
from rankine.models.exporter import PLACEHOLDER, name_inputs, quiet_exporter
from rankine.models.intake.calling import bind, in_order, output_order
from rankine.models.intake.embedding_bag import keep_embedding_bags, translation_table
from rankine.models.intake.refusal import ModelError, first_line
from rankine.models.intake.trace import check_runs
from rankine.models.random_rows import random_batch
from rankine.models.schema import Schema

__all__ = ["in_program_order", "load_program", "read_program", "runnable", "to_onnx"]

_EXPORT_HINT = (
    "Export it with dynamic rows: torch.export.export(model.eval(), arguments, dynamic_shapes={...: {0: Dim('rows')}})."
)
_TRAINING = {"dropout": 2, "batch_norm": 5, "native_dropout": 2}
"""Operators that differ in training, and the position of the argument that says so."""


def read_program(path: Path, schema: Schema, table_rows: Mapping[str, int]) -> torch.export.ExportedProgram:
    """The program that ``torch.export.save`` wrote to ``path``, checked against the schema's call.

    Raises:
        ModelError: it cannot be read, takes other arguments than the call has, fixes the number of rows, was exported
            in training mode, or fails on rows of the schema.
    """
    program = load_program(path)
    _check_evaluates(program, path)
    _check_arguments(program, schema, table_rows, path)
    schema = in_program_order(program, schema)
    run = runnable(program)

    def call(*given: Any) -> Any:
        positional, named = bind(_call(schema), given)
        return run(*positional, **named)

    check_runs(call, schema, table_rows)
    return program


def in_program_order(program: torch.export.ExportedProgram, schema: Schema) -> Schema:
    """The schema with the arguments of a dictionary in the program's order: a program takes no other."""
    call = _call(schema)
    if call.style != "dict":
        return schema
    inputs = program.graph_signature.user_inputs
    args, _ = pytree.tree_unflatten(range(len(inputs)), program.call_spec.in_spec)
    return schema.model_copy(update={"call": in_order(call, list(args[0]))})


def load_program(path: Path) -> torch.export.ExportedProgram:
    """What ``torch.export.save`` wrote to ``path``.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with quiet_exporter():
            program = torch.export.load(path)
    except Exception as error:
        hint = f"Write it with torch.export.save of this PyTorch, {torch.__version__}."
        raise ModelError("is not a readable .pt2 file", where=str(path), got=first_line(error), hint=hint) from error
    _forget_derived_ranges(program)
    return program


def _forget_derived_ranges(program: torch.export.ExportedProgram) -> None:
    """Drop the ranges of sizes such as ``rows + 1``, which follow from that of ``rows``.

    Reading a program back, PyTorch 2.13 enters them as if they were symbols, and then cannot decompose it.
    """
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            ranges = mode.shape_env.var_to_range
            for size in [size for size in ranges if not size.is_Symbol]:
                del ranges[size]


def runnable(program: torch.export.ExportedProgram) -> nn.Module:
    """The program as a module, without the checks of argument shapes: these are made once, when it is brought in."""
    return program.module(check_guards=False)


def to_onnx(program: torch.export.ExportedProgram, call: Call, tasks: tuple[str, ...]) -> onnx.ModelProto:
    """The program as a graph that takes ids: inputs named as the call's arguments, outputs in the order of the tasks.

    Embedding bags become ``rankine.EmbeddingBag``; ``program`` itself stays as it is.

    Raises:
        ModelError: an operator has no form in ONNX; names it and the module that it stands in.
    """
    import copy

    names = _names(program, call)
    program = copy.copy(program)
    program._graph_module = copy.deepcopy(program.graph_module)
    keep_embedding_bags(program)
    try:
        with quiet_exporter():
            exported: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[f"{PLACEHOLDER}{position}" for position in range(len(names))],
                custom_translation_table=translation_table(),
                # Its optimizer takes x + 1e-8 for x: the mean of an empty list would be 0 / 0.
                optimize=False,
                verbose=False,
            )
    except Exception as error:
        raise _no_onnx_form(error) from error
    model: onnx.ModelProto = exported.model_proto
    # The exporter leaves shapes of its own tracing behind, which later rewrites would contradict.
    del model.graph.value_info[:]
    name_inputs(model.graph, names)
    outputs = list(model.graph.output)
    order = output_order(pytree.tree_unflatten(range(len(outputs)), program.call_spec.out_spec), tasks)
    del model.graph.output[:]
    model.graph.output.extend(outputs[position] for position in order)
    return model


def _names(program: torch.export.ExportedProgram, call: Call) -> list[str]:
    """Names of the program's inputs in its own order, which is not that of the call where they go by name."""
    positions = range(len(call.arguments))
    bound = bind(call, list(positions))
    leaves, spec = pytree.tree_flatten(bound)
    if program.call_spec.in_spec == spec or call.style == "positional":
        order = leaves
    else:
        order = _reordered(program, call)
    return [call.arguments[position].name for position in order]


def _reordered(program: torch.export.ExportedProgram, call: Call) -> list[int]:
    """Position in the call of each input of a program that takes its arguments by name."""
    args, kwargs = pytree.tree_unflatten(range(len(program.graph_signature.user_inputs)), program.call_spec.in_spec)
    given: Mapping[str, int] = kwargs if call.style == "keyword" else args[0]
    by_name = {argument.name: position for position, argument in enumerate(call.arguments)}
    found = {slot: by_name[name] for name, slot in given.items()}
    return [found[slot] for slot in range(len(found))]


def _call(schema: Schema) -> Call:
    if schema.call is None:
        raise ModelError("the schema does not say how the model is called", where="call")
    return schema.call


def _check_evaluates(program: torch.export.ExportedProgram, path: Path) -> None:
    for node in program.graph.nodes:
        name = getattr(node.target, "_opname", "")
        position = _TRAINING.get(name)
        if position is not None and len(node.args) > position and node.args[position] is True:
            hint = "Call model.eval() before torch.export.export."
            raise ModelError("was exported in training mode", where=str(path), got=f"{name} that trains", hint=hint)


def _check_arguments(
    program: torch.export.ExportedProgram, schema: Schema, table_rows: Mapping[str, int], path: Path
) -> None:
    """Hold the program's inputs to the call: their names, types and widths, and that rows are dynamic."""
    call = _call(schema)
    _check_structure(program, call, path)
    inputs = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    example = call_arguments(call, schema, random_batch(schema, table_rows, 3))
    for name, given in zip(_names(program, call), program.graph_signature.user_inputs, strict=True):
        value = inputs[str(given)].meta.get("val")
        where = f"{path}: argument '{name}'"
        if not isinstance(value, torch.Tensor):
            raise ModelError("the program takes something else than a tensor", where=where, got=type(value).__name__)
        sizes: list[Any] = list(value.shape)
        if not sizes or isinstance(sizes[0], int):
            got = f"{sizes}"
            raise ModelError("the program fixes the number of rows", where=where, got=got, hint=_EXPORT_HINT)
        wanted = torch.from_numpy(example[name])
        if value.dtype != wanted.dtype:
            kind = str(value.dtype).removeprefix("torch.")
            hint = f"Write 'dtype: {kind}' for this argument under 'call'."
            raise ModelError(
                "has another type", where=where, got=f"{wanted.dtype} in the call", allowed=kind, hint=hint
            )
        shape = [size if isinstance(size, int) else "rows" for size in sizes]
        if len(shape) != wanted.dim() or any(
            isinstance(size, int) and size != have for size, have in zip(shape, wanted.shape, strict=True)
        ):
            got = f"{['rows', *wanted.shape[1:]]} by the schema"
            hint = "Check the argument's form and columns, and the widths and max_length of its features."
            raise ModelError("has another shape", where=where, got=got, allowed=f"{shape}", hint=hint)


def _check_structure(program: torch.export.ExportedProgram, call: Call, path: Path) -> None:
    inputs = program.graph_signature.user_inputs
    args, kwargs = pytree.tree_unflatten(range(len(inputs)), program.call_spec.in_spec)
    names = [argument.name for argument in call.arguments]
    taken: object
    match call.style:
        case "positional":
            fits, taken = len(args) == len(names) and not kwargs, f"{len(args)} positional arguments"
        case "keyword":
            fits = not args and set(kwargs) == set(names)
            taken = f"the keywords {', '.join(kwargs)}" if kwargs else f"{len(args)} positional arguments"
        case _:
            fits = len(args) == 1 and not kwargs and isinstance(args[0], dict) and set(args[0]) == set(names)
            one = len(args) == 1 and isinstance(args[0], dict)
            taken = f"a dictionary of {', '.join(args[0])}" if one else f"{len(args) + len(kwargs)} arguments"
    if not fits or len(inputs) != len(names):
        raise ModelError(
            "takes other arguments than the schema's call has",
            where=str(path),
            got=f"style {call.style}: {', '.join(names)}",
            allowed=f"{taken} ({', '.join(str(name) for name in inputs)})",
            hint="Write under 'call' the arguments of torch.export.export, in their order, and their style.",
        )


def _no_onnx_form(error: Exception) -> ModelError:
    texts: list[str] = []
    link: BaseException | None = error.__cause__ or error
    while link is not None:
        texts.append(str(link))
        link = link.__cause__
    text = "\n".join([*reversed(texts), str(error)])
    named = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    node = re.search(r"Error when translating node %(\S+)", text)
    what = f"the operator '{named[1]}' has no form in ONNX" if named else "the program cannot be written as ONNX"
    return ModelError(
        what,
        where=f"node '{node[1]}'" if node else None,
        got=None if named else first_line(error.__cause__ or error),
        hint="Replace it in the model by other operators; the error that PyTorch gives follows in the traceback.",
    )

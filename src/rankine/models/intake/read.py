"""``read_model``: whatever a user has, as a graph that takes ids and, from PyTorch, the program it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rankine.artifact import sha256_of
from rankine.models.intake.origin import Origin
from rankine.models.intake.reference import is_reference, resolve
from rankine.models.intake.refusal import ModelError
from rankine.models.schema import Schema

if TYPE_CHECKING:
    import onnx
    import torch
    from torch import nn

__all__ = ["Foreign", "read_model"]


@dataclass(frozen=True)
class Foreign:
    """A model from elsewhere.

    Attributes:
        graph: takes the arguments of ``schema.call`` by name, ids and numbers.
        program: of PyTorch models, as its owner exported it or as it was traced; None for ONNX.
        fixed_rows: the node that seems to fix the number of rows inside of the graph, or None.
        schema: with the ``call`` by which the program is called: a traced one takes its arguments by position.
    """

    graph: onnx.ModelProto
    program: torch.export.ExportedProgram | None
    schema: Schema
    origin: Origin
    fixed_rows: str | None = None


def read_model(model: nn.Module | str | Path, schema: Schema, table_rows: Mapping[str, int]) -> Foreign:
    """Take a model in.

    Args:
        model: a module, a reference ``module:function``, or the path of a ``.pt2`` or ``.onnx`` file.
        schema: with features and, unless the model takes one tensor a feature in the schema's order, ``call``.
        table_rows: rows of every table, by the schema's encodings.

    Raises:
        ModelError: it cannot be read, does not take what the schema's call gives, or cannot be exported.
    """
    if not isinstance(model, str | Path):
        return _from_module(model, type(model).__name__, schema, table_rows)
    if isinstance(model, str) and is_reference(model):
        return _from_module(resolve(model), model, schema, table_rows)
    path = Path(model)
    if path.suffix not in (".pt2", ".onnx"):
        allowed = "module:function, a .pt2 file (torch.export.save) or an .onnx file"
        hint = None
        if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
            hint = "Weights alone are no model: write a function that builds the module and loads them."
        if path.suffix == ".py":
            call = f"{path.stem}:build"
            hint = f"Name the function in it that returns the trained module: {call}, if it is called 'build'."
        raise ModelError("is no model that can be read", where=str(model), allowed=allowed, hint=hint)
    if not path.is_file():
        raise ModelError("no such file", where=str(path))
    if path.suffix == ".pt2":
        return _from_pt2(path, schema, table_rows)
    return _from_onnx(path, schema)


def _from_module(module: nn.Module, reference: str, schema: Schema, table_rows: Mapping[str, int]) -> Foreign:
    from rankine.models.arguments import check_call
    from rankine.models.intake.calling import default_call
    from rankine.models.intake.program import to_onnx
    from rankine.models.intake.trace import trace

    call = schema.call or default_call(schema)
    schema = schema.model_copy(update={"call": call})
    check_call(call, schema)
    module = _on_cpu(module)
    program = trace(module, schema, table_rows)
    # The traced program takes its arguments one by one, whatever its module does with them.
    positional = call.model_copy(update={"style": "positional"})
    graph = to_onnx(program, positional, schema.task_names)
    origin = Origin(kind="module", reference=reference, sha256=_weights_sha256(module))
    return Foreign(graph, program, schema.model_copy(update={"call": positional}), origin)


def _from_pt2(path: Path, schema: Schema, table_rows: Mapping[str, int]) -> Foreign:
    from rankine.models.arguments import check_call
    from rankine.models.intake.calling import default_call
    from rankine.models.intake.program import in_program_order, read_program, to_onnx

    call = schema.call or default_call(schema)
    schema = schema.model_copy(update={"call": call})
    check_call(call, schema)
    program = read_program(path, schema, table_rows)
    schema = in_program_order(program, schema)
    graph = to_onnx(program, schema.call or call, schema.task_names)
    return Foreign(graph, program, schema, Origin(kind="pt2", reference=path.name, sha256=sha256_of(path)))


def _from_onnx(path: Path, schema: Schema) -> Foreign:
    from rankine.models.arguments import check_call
    from rankine.models.intake.onnx_file import check_inputs, default_onnx_call, fixed_inside, read_onnx

    model = read_onnx(path)
    call = schema.call or default_onnx_call(model, schema)
    schema = schema.model_copy(update={"call": call})
    check_call(call, schema)
    graph = check_inputs(model, call, schema, path)
    origin = Origin(kind="onnx", reference=path.name, sha256=sha256_of(path))
    return Foreign(graph, None, schema, origin, fixed_inside(model))


def _on_cpu(module: nn.Module) -> nn.Module:
    """The module itself where it lies in main memory, else a copy there."""
    import copy

    tensors = [*module.parameters(), *module.buffers()]
    return module if all(tensor.device.type == "cpu" for tensor in tensors) else copy.deepcopy(module).cpu()


def _weights_sha256(module: nn.Module) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

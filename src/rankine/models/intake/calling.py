"""Tensors in the way in which a model takes them, and its outputs as one matrix of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankine.models.call import Call
from rankine.models.intake.refusal import ModelError
from rankine.models.schema import DenseFeature, MultiHotFeature, Schema, SequenceFeature

__all__ = ["bind", "default_call", "in_order", "output_order", "task_columns", "tensors"]


def default_call(schema: Schema) -> Call:
    """One argument a feature, in the schema's order and by its name: what is meant where the schema has no ``call``.

    Raises:
        ModelError: a feature is a list: its argument can have several forms.
    """
    for feature in schema.features:
        if isinstance(feature, MultiHotFeature | SequenceFeature):
            forms = "values, offsets, ends, weights" if feature.kind == "multi_hot" else "padded, length, mask"
            raise ModelError(
                f"the schema must say how the model takes '{feature.name}'",
                where="call",
                allowed=f"arguments of the forms {forms}",
                hint="Add a 'call' section to the schema; `rankine init` writes a draft of one.",
            )
    arguments = [
        {"name": f.name, "feature": f.name, "dtype": "float32" if isinstance(f, DenseFeature) else "int64"}
        for f in schema.features
    ]
    return Call.model_validate({"arguments": arguments})


def tensors(arguments: Mapping[str, np.ndarray]) -> list[Tensor]:
    """The arguments in the order of the call; memory is shared."""
    return [torch.from_numpy(values) for values in arguments.values()]


def bind(call: Call, given: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model's own call."""
    named = dict(zip((argument.name for argument in call.arguments), given, strict=True))
    match call.style:
        case "keyword":
            return (), named
        case "dict":
            return (named,), {}
        case _:
            return tuple(given), {}


def in_order(call: Call, names: Sequence[str]) -> Call:
    """The same call with its arguments in the order of ``names``, which are theirs."""
    by_name = {argument.name: argument for argument in call.arguments}
    return call.model_copy(update={"arguments": tuple(by_name[name] for name in names)})


def task_columns(outputs: Any, tasks: Sequence[str], rows: int) -> Tensor:
    """What a model returned as float32 ``(rows, tasks)``.

    Raises:
        ModelError: it is no tensor, or has more or fewer columns than there are tasks.
    """
    columns = []
    for output in _in_order(outputs, tasks):
        if not isinstance(output, Tensor) or output.numel() % rows:
            got = f"{tuple(output.shape)} for {rows} rows" if isinstance(output, Tensor) else type(output).__name__
            raise ModelError("the model returns something else than a number a row", got=got, allowed=_ALLOWED)
        columns.append(output.reshape(rows, -1).to(torch.float32))
    joined = torch.cat(columns, dim=1) if len(columns) > 1 else columns[0]
    if joined.shape[1] != len(tasks):
        raise ModelError(
            "the model's outputs are not the schema's tasks",
            got=f"{joined.shape[1]} numbers a row",
            allowed=f"one for each of the tasks {', '.join(tasks)}",
            hint="Name every output under 'tasks' in the schema, in their order; of a softmax return one class alone.",
        )
    return joined


def output_order(structure: Any, tasks: Sequence[str]) -> list[Any]:
    """The leaves of the model's output in the order of the tasks."""
    return list(_in_order(structure, tasks))


_ALLOWED = "one tensor (rows,) or (rows, tasks), or a tuple or dictionary of one tensor a task"


def _in_order(outputs: Any, tasks: Sequence[str]) -> Sequence[Any]:
    if isinstance(outputs, Mapping):
        if len(outputs) > 1 and set(outputs) != set(tasks):
            raise ModelError(
                "the names of the model's outputs are not the schema's tasks",
                got=", ".join(map(str, outputs)),
                allowed=", ".join(tasks),
                hint="Give the tasks in the schema the names of the outputs.",
            )
        return [outputs[task] for task in tasks] if len(outputs) > 1 else list(outputs.values())
    if isinstance(outputs, tuple | list):
        if not outputs:
            raise ModelError("the model returns nothing", allowed=_ALLOWED)
        return outputs
    return [outputs]

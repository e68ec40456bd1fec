"""The user's own program as what scores rows: its arguments from encoded batches, its final sigmoids taken off."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx

from rankine.artifact import read_record
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.models.arguments import call_arguments
from rankine.models.columns import Batch
from rankine.models.intake.calling import bind, task_columns, tensors
from rankine.models.intake.program import runnable
from rankine.models.intake.refusal import first_line
from rankine.models.schema import Schema

__all__ = ["CALL_FILE", "PROGRAM_FILE", "ProgramScorer", "read_scorer", "write_scorer"]

PROGRAM_FILE = "program.pt2"
CALL_FILE = "call.json"

_aten = torch.ops.aten
_SHAPE_ONLY = {
    _aten.alias.default,
    _aten.clone.default,
    _aten.contiguous.default,
    _aten.detach.default,
    _aten.flatten.using_ints,
    _aten.permute.default,
    _aten.reshape.default,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.to.dtype,
    _aten.to.dtype_layout,
    _aten.t.default,
    _aten.transpose.int,
    _aten.unsqueeze.default,
    _aten.view.default,
}
_JOINS = {_aten.cat.default, _aten.concat.default, _aten.stack.default}


class Called(Frozen):
    """How a program is called: the schema with its ``call``, and what its outputs are.

    Attributes:
        probabilities: tasks whose outputs are probabilities without a final sigmoid that could be taken off: their
            logits are computed from them.
    """

    schema_version: int = 1
    features: Schema
    probabilities: tuple[str, ...] = ()


class ProgramScorer:
    """A program in evaluation; see :class:`rankine.models.checkpoint.Scorer`."""

    def __init__(self, program: torch.export.ExportedProgram, called: Called) -> None:
        if called.features.call is None:
            raise ArtifactError("does not say how the program is called", where=CALL_FILE)
        self.schema = called.features
        self._call = called.features.call
        module = cast(fx.GraphModule, runnable(program))
        self.sigmoids = take_off_sigmoids(module)
        self._module = module
        self._probabilities = [name in called.probabilities for name in self.schema.task_names]

    def logits(self, batch: Batch) -> Tensor:
        """Float32 ``(rows, tasks)``; ``batch`` has rows."""
        given = tensors(call_arguments(self._call, self.schema, batch))
        positional, named = bind(self._call, given)
        outputs = task_columns(self._module(*positional, **named), self.schema.task_names, batch.rows)
        if not any(self._probabilities):
            return outputs
        logits = torch.logit(outputs.double()).float()
        return torch.where(torch.tensor(self._probabilities), logits, outputs)

    def numpy(self, batch: Batch) -> np.ndarray:
        """As :meth:`logits`, as an array, without what a gradient would need."""
        with torch.inference_mode():
            return self.logits(batch).numpy()


def write_scorer(program: torch.export.ExportedProgram, called: Called, folder: Path) -> None:
    """Write ``program.pt2`` and ``call.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / PROGRAM_FILE)
    (folder / CALL_FILE).write_text(called.model_dump_json(indent=1), encoding="utf-8")


def read_scorer(folder: Path) -> ProgramScorer:
    """What :func:`write_scorer` wrote.

    Raises:
        ArtifactError: a file is missing or damaged, or is of another version of PyTorch.
    """
    called = read_record(folder / CALL_FILE, Called)
    path = folder / PROGRAM_FILE
    try:
        program = torch.export.load(path)
    except Exception as error:
        hint = f"It is read by the PyTorch that wrote it or a newer one; this is {torch.__version__}."
        raise ArtifactError("the program cannot be read", where=str(path), got=first_line(error), hint=hint) from error
    return ProgramScorer(program, called)


def take_off_sigmoids(module: fx.GraphModule) -> int:
    """Bypass the sigmoids that end the outputs of ``module``, in place; returns how many outputs or parts had one.

    Looked through are changes of shape and type, and joins of several tasks.
    """
    graph = module.graph
    (output,) = (node for node in graph.nodes if node.op == "output")
    found: list[fx.Node] = []

    def bypassed(value: Any) -> Any:
        return _without_sigmoid(value, graph, found) if isinstance(value, fx.Node) else value

    output.args = fx.node.map_arg(output.args, bypassed)
    if found:
        graph.eliminate_dead_code()
        module.recompile()
    return len(found)


def _without_sigmoid(node: fx.Node, graph: fx.Graph, found: list[fx.Node]) -> fx.Node:
    """The node that computes what ``node`` does, but before its sigmoid; ``node`` itself where it has none."""
    if node.op != "call_function":
        return node
    if node.target is _aten.sigmoid.default:
        found.append(node)
        return cast(fx.Node, node.args[0])
    if node.target in _JOINS:
        parts = cast("list[fx.Node]", node.args[0])
        first: Any = [_without_sigmoid(part, graph, found) for part in parts]
        changed = any(new is not old for new, old in zip(first, parts, strict=True))
    elif node.target in _SHAPE_ONLY:
        first = _without_sigmoid(cast(fx.Node, node.args[0]), graph, found)
        changed = first is not node.args[0]
    else:
        return node
    if not changed:
        return node
    with graph.inserting_after(node):
        return graph.call_function(cast(Any, node.target), (first, *node.args[1:]), dict(node.kwargs))

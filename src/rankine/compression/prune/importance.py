"""How much the loss would change if a group of channels were not there, from gradients on training rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rankine.compression.prune.labels import Ids
from rankine.compression.prune.operation import Operation
from rankine.compression.prune.operations.elementwise import Elementwise
from rankine.compression.prune.shrink import masked_logits
from rankine.compression.prune.trace import Trace
from rankine.errors import DataError
from rankine.models.inputs import torch_inputs
from rankine.models.schema import Task
from rankine.training.fit import Examples

__all__ = ["importance"]

_BATCH_ROWS = 256
_MEASURED_ROWS = 16384


def importance(
    trace: Trace, roots: Sequence[int], examples: Examples, method: Literal["taylor", "fisher"]
) -> np.ndarray:
    """The importance of each group, float64 ``(groups,)``.

    A group has one gate that multiplies everything where it begins: the columns of tables, the outputs of layers after
    their activation. With ``g`` the gradient of the loss of a batch with respect to the gate, at 1, ``taylor`` is the
    mean of ``|g|`` over batches (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, arXiv
    1906.10771) and ``fisher`` that of ``rows * g**2 / 2`` (Theis et al., arXiv 1801.05787), both in the unit of the
    loss. Neither holds for something as large as a whole feature, so of a feature the loss without it is measured too,
    and the larger of both counts.

    Args:
        examples: rows with labels. Against the baseline's own probabilities its gradient would be zero.

    Raises:
        DataError: a gradient is not finite.
    """
    numbers = {root: number for number, root in enumerate(roots)}
    gates = {name: _members(trace, name, begins, numbers) for name, begins in _gates(trace).items()}
    total, batches = np.zeros(len(roots)), 0
    for start in range(0, examples.batch.rows, _BATCH_ROWS):
        part = examples.select(np.arange(start, min(start + _BATCH_ROWS, examples.batch.rows)))
        gradients = _gate_gradients(trace, part, list(gates))
        of_group = np.zeros(len(roots))
        for name, (elements, groups) in gates.items():
            np.add.at(of_group, groups, gradients[name][elements])
        if not np.isfinite(of_group).all():
            raise DataError(
                "the gradients by which importance is measured are not finite on the calibration rows",
                where="recipe: prune",
                got=f"{int((~np.isfinite(of_group)).sum())} of {len(roots)} groups",
                hint="Look for a root, a logarithm or a division of zero in the model; or leave 'prune' out.",
            )
        total += np.abs(of_group) if method == "taylor" else part.batch.rows * of_group**2 / 2
        batches += 1
    mean: np.ndarray = total / max(batches, 1)
    whole = _loss_without(trace, None, examples)
    for number, root in enumerate(roots):
        if trace.labels.is_field(root):
            mean[number] = max(mean[number], _loss_without(trace, root, examples) - whole)
    return mean


def _gate_gradients(trace: Trace, part: Examples, names: Sequence[str]) -> dict[str, np.ndarray]:
    """For every element of these values at one row, flat, the gradient of the mean loss for a gate of its own."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        value = value if value.requires_grad else value.requires_grad_()
        seen[name] = value
        return value

    schema = trace.network.schema
    with trace.tapped({name: partial(keep, name) for name in names}) as model:
        loss = _loss(model(torch_inputs(part.batch, schema)), part.targets, schema.tasks)
    slopes = torch.autograd.grad(loss, [seen[name] for name in names], materialize_grads=True)
    found = {}
    for name, slope in zip(names, slopes, strict=True):
        shape = trace.shape(name)
        value = seen[name].detach()
        product = torch.where(value == 0, 0.0, slope * value)  # a gate of nothing: no slope, however steep, counts
        found[name] = _over_rows(product, shape, trace.rows_axis[name]).numpy().astype(np.float64).ravel()
    return found


def _loss_without(trace: Trace, root: int | None, examples: Examples) -> float:
    """The mean loss with a group masked, on a part of the rows."""
    part = examples.select(np.arange(min(examples.batch.rows, _MEASURED_ROWS)))
    removed = frozenset() if root is None else frozenset((root,))
    logits = torch.from_numpy(masked_logits(trace, removed, part.batch))
    return float(_loss(logits, part.targets, trace.network.schema.tasks))


def _loss(outputs: Tensor, targets: np.ndarray, tasks: Sequence[Task]) -> Tensor:
    """The tasks' losses, weighted: the cross-entropy of a logit, the squared error of a score without a link."""
    total = torch.zeros(())
    for output, target, task in zip(outputs.T, torch.from_numpy(targets.astype(np.float32)).T, tasks, strict=True):
        loss = functional.binary_cross_entropy_with_logits if task.link == "sigmoid" else functional.mse_loss
        total = total + task.weight * loss(output, target)
    return total


def _over_rows(values: Tensor, shape: tuple[int, ...], rows_axis: int | None) -> Tensor:
    """The sum over rows, in the shape that the value has at one row."""
    if rows_axis is None:
        return values
    return values.reshape(*shape[:rows_axis], -1, *shape[rows_axis:]).sum(dim=rows_axis)


def _gates(trace: Trace) -> dict[str, frozenset[int]]:
    """Where groups begin, and which do: the inputs, and the outputs of layers, behind their bias and activation."""
    readers = trace.graph.readers()
    following = {operation.data[0]: operation.output for operation in trace.operations if _is_unary(operation)}
    found = {value.name: _roots(trace, trace.ids[value.name]) for value in trace.graph.inputs}
    for operation in trace.operations:
        own = operation.own(trace.labels)
        if own is not None:
            name = operation.output
            while name in following and len(readers[name]) == 1:
                name = following[name]
            found[name] = _roots(trace, own) | found.get(name, frozenset())
    return found


def _is_unary(operation: Operation) -> bool:
    return isinstance(operation, Elementwise) and len(operation.data) == 1


def _roots(trace: Trace, ids: Ids) -> frozenset[int]:
    return frozenset(root for label in np.unique(ids) for root in trace.labels.roots(label))


def _members(trace: Trace, name: str, begins: frozenset[int], numbers: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which elements of a value begin with which groups: places (flat) and numbers of groups, both ``(n,)``."""
    ids = trace.ids[name].ravel()
    known = {
        label: [numbers[root] for root in trace.labels.roots(label) & begins if root in numbers]
        for label in np.unique(ids)
    }
    pairs = [(place, number) for place, label in enumerate(ids) for number in known[label]]
    members = np.array(pairs, int).reshape(-1, 2)
    return members[:, 0], members[:, 1]

"""``nn.Module`` -> an exported program with dynamic rows, whose arguments are those of the call in their order."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rankine.models.arguments import call_arguments
from rankine.models.call import Call
from rankine.models.columns import Batch, Column, Ragged
from rankine.models.exporter import quiet_exporter
from rankine.models.intake.calling import bind, task_columns, tensors
from rankine.models.intake.refusal import ModelError, first_line, user_line
from rankine.models.random_rows import random_batch
from rankine.models.schema import DenseFeature, Schema
from rankine.models.transforms import table_of

__all__ = ["check_runs", "count_outputs", "trace"]

_ROWS = 5
"""Of the traced example: like no width that a model has, so that no dimension is mistaken for another."""
_LARGEST = 2**31 - 2


class _Bound(nn.Module):
    """A module that takes the arguments of a call one by one."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, *arguments: Tensor) -> Any:
        positional, named = bind(self._call, arguments)
        return self.model(*positional, **named)


def trace(module: nn.Module, schema: Schema, table_rows: Mapping[str, int]) -> torch.export.ExportedProgram:
    """Export ``module`` in evaluation mode; the program's arguments are positional, in the order of ``schema.call``.

    The number of rows is dynamic, and so is that of the values of every bag. The module stays as it was.

    Raises:
        ModelError: the module does not run on the schema's rows, or PyTorch cannot export it; names the line of the
            module's code, and what to change.
    """
    call = _call(schema)
    batch = random_batch(schema, table_rows, _ROWS)
    bound = _Bound(module, call)
    with _evaluating(module), quiet_exporter():
        check_runs(bound, schema, table_rows)
        try:
            with redirect_stderr(io.StringIO()):  # where it fails, it prints the whole graph so far
                return torch.export.export(
                    bound,
                    tuple(tensors(call_arguments(call, schema, batch))),
                    dynamic_shapes={"arguments": _dynamic_shapes(call)},
                    strict=False,
                )
        except Exception as error:
            raise _refusal(error) from error


def check_runs(run: Callable[..., Any], schema: Schema, table_rows: Mapping[str, int]) -> None:
    """Refuse a model that fails on rows of the schema, before it is traced: its own error says most.

    Args:
        run: takes the arguments of the call one by one.

    Raises:
        ModelError: it fails, on several rows or on one; names the feature where an id is past the end of a table.
    """
    call, batch = _call(schema), random_batch(schema, table_rows, _ROWS)

    def attempt(batch: Batch) -> Tensor:
        with torch.inference_mode():
            outputs = run(*tensors(call_arguments(call, schema, batch)))
        return task_columns(outputs, schema.task_names, batch.rows)

    try:
        _check_repeats(attempt(batch), attempt(batch))
    except ModelError:
        raise
    except IndexError as error:
        blamed = _blame(attempt, schema, batch)
        if blamed is None:
            raise _failure(error) from error
        raise ModelError(
            f"the model has no row for the largest id of feature '{blamed}'",
            where=user_line(error.__traceback__),
            got=f"size {table_rows[_table(schema, blamed)]} in the schema",
            hint="Give its encoding the size of the model's table, or correct the order of features or of 'call'.",
        ) from error
    except Exception as error:
        raise _failure(error) from error
    _check_single_row(lambda: attempt(random_batch(schema, table_rows, 1)))


def _check_repeats(first: Tensor, second: Tensor) -> None:
    """Refuse a model that draws numbers.

    Raises:
        ModelError: the same rows got other outputs.
    """
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise ModelError(
            "the model gives other outputs when it is run again on the same rows",
            got=f"a difference of {(first - second).abs().max().item():.3g}",
            hint="Take out what is random in eval(): F.dropout needs training=self.training, torch.rand a constant.",
        )


def _check_single_row(attempt: Callable[[], Tensor]) -> None:
    """Refuse a model that takes several rows only: a request may have one candidate.

    Raises:
        ModelError: it fails.
    """
    try:
        attempt()
    except Exception as error:
        raise ModelError(
            "the model fails on a single row, and not on several",
            where=user_line(error.__traceback__),
            got=first_line(error),
            hint="Look for squeeze() without a dimension: where there is one row it drops the rows too.",
        ) from error


def count_outputs(module: nn.Module, schema: Schema, table_rows: Mapping[str, int]) -> int:
    """Run ``module`` on rows of the schema; returns the numbers that it gives a row.

    Raises:
        ModelError: it fails.
    """
    call, batch = _call(schema), random_batch(schema, table_rows, _ROWS)
    with _evaluating(module), torch.inference_mode():
        try:
            outputs = _Bound(module, call)(*tensors(call_arguments(call, schema, batch)))
        except Exception as error:
            raise _failure(error) from error
        leaves = outputs.values() if isinstance(outputs, Mapping) else outputs
        parts = [leaves] if isinstance(leaves, Tensor) else list(leaves)
    return sum(part.numel() // batch.rows for part in parts if isinstance(part, Tensor))


def _call(schema: Schema) -> Call:
    if schema.call is None:
        raise ModelError("the schema does not say how the model is called", where="call")
    return schema.call


def _dynamic_shapes(call: Call) -> tuple[dict[int, Any], ...]:
    rows = torch.export.Dim("rows", min=1, max=_LARGEST)
    shapes: list[dict[int, Any]] = []
    values: dict[str, Any] = {}
    for position, argument in enumerate(call.arguments):
        if argument.form in ("values", "weights"):
            name = argument.feature or ""
            values.setdefault(name, torch.export.Dim(f"values_{position}", min=0, max=_LARGEST))
            shapes.append({0: values[name]})
        else:
            shapes.append({0: rows + 1 if argument.form == "ends" else rows})
    return tuple(shapes)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; each part gets back the mode that it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _failure(error: Exception) -> ModelError:
    return ModelError(
        "the model fails on rows made as the schema says",
        where=user_line(error.__traceback__),
        got=first_line(error),
        hint="Check 'call' in the schema: the order of the arguments, their form and dtype, and the features' sizes.",
    )


def _refusal(error: Exception) -> ModelError:
    text = str(error)
    if "data-dependent" in text or "Data-dependent" in text or "DataDependent" in type(error).__name__:
        what = "the code decides by the values of a tensor, which a graph cannot"
        hint = "Use torch.where or a mask instead of `if`, `while`, `int()`, `.item()` or indexing by a condition."
    elif "specialized" in text or "constraints violated" in text.lower():
        what = "the code fixes the number of rows"
        hint = "Take it from a tensor (x.shape[0], or -1 in a reshape), and write no Python loop over rows."
    else:
        what = "PyTorch cannot export the model"
        hint = "Change this line; `torch.export.export(model, arguments)` shows the same error in full."
    return ModelError(what, where=user_line(error.__traceback__), got=first_line(error), hint=hint)


def _blame(attempt: Callable[[Batch], object], schema: Schema, batch: Batch) -> str | None:
    """The feature whose ids are too large: the one that fails while all others have id 0."""
    for name in [feature.name for feature in schema.features if not isinstance(feature, DenseFeature)]:
        try:
            attempt(_zeroed(batch, keep=name))
        except IndexError:
            return name
    return None


def _zeroed(batch: Batch, keep: str) -> Batch:
    def zero(columns: Mapping[str, Column]) -> dict[str, Column]:
        return {name: column if name == keep else _zero_ids(column) for name, column in columns.items()}

    index = batch.request_index
    return Batch(zero(batch.request), zero(batch.item), zero(batch.pair), index, batch.item_index)


def _zero_ids(column: Column) -> Column:
    if isinstance(column, Ragged):
        return Ragged(np.zeros_like(column.values), column.offsets, column.weights)
    return np.zeros_like(column) if column.dtype.kind == "i" else column


def _table(schema: Schema, name: str) -> str:
    feature = next(feature for feature in schema.features if feature.name == name)
    return name if isinstance(feature, DenseFeature) else table_of(feature)

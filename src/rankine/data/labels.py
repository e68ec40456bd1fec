"""Labels of the tasks, from the columns that the schema names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.errors import DataError
from rankine.models.schema import Task

__all__ = ["read_labels"]


def read_labels(tasks: Sequence[Task], columns: Mapping[str, np.ndarray], where: Callable[[Task], str]) -> np.ndarray:
    """Labels 0 or 1, float32 ``(rows, tasks)``, in the order of ``tasks``.

    Args:
        columns: by name, the numbers ``(rows,)`` that the tasks' thresholds are held against.
        where: what a task's column is called in messages.

    Raises:
        DataError: names the first row that is neither 0 nor 1 in the column of a task without a threshold.
    """
    return np.stack([_of_task(task, columns[task.label], where(task)) for task in tasks], axis=1)


def _of_task(task: Task, values: np.ndarray, where: str) -> np.ndarray:
    if task.threshold is not None:
        return (values >= task.threshold).astype(np.float32)
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        hint = f"Give task '{task.name}' a threshold in the schema."
        where = f"{where}, row {row + 1}"
        raise DataError("is not a label", where=where, got=float(values[row]), allowed="0, 1", hint=hint)
    return values.astype(np.float32)

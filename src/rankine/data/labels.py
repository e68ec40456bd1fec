"""Labels of the tasks, from the columns that the schema names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rankine.errors import DataError
from rankine.models.schema import Task

__all__ = ["check_classes", "read_labels"]


def read_labels(tasks: Sequence[Task], columns: Mapping[str, np.ndarray], where: Callable[[Task], str]) -> np.ndarray:
    """Labels 0 or 1, float32 ``(rows, tasks)``, in the order of ``tasks``.

    Args:
        columns: by name, the numbers ``(rows,)`` that the tasks' thresholds are held against.
        where: what a task's column is called in messages.

    Raises:
        DataError: names the first row that is neither 0 nor 1 in the column of a task without a threshold.
    """
    return np.stack([_of_task(task, columns[task.label], where(task)) for task in tasks], axis=1)


def check_classes(tasks: Sequence[Task], labels: np.ndarray, what: str) -> None:
    """Refuse rows on which there is no AUC.

    Args:
        labels: ``(rows, tasks)``, 0 or 1.
        what: the rows, for the message: ``validation``.

    Raises:
        DataError: a task has one class only.
    """
    for task, values in zip(tasks, labels.T, strict=True):
        if len(values) and values.min() < values.max():
            continue
        raise DataError(
            f"the {what} rows have one class only",
            where=f"task '{task.name}'",
            got=f"{int(values.sum())} positives of {len(values)} rows",
            hint="Take more rows, check the task's threshold, or split otherwise.",
        )


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

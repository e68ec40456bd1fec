"""From logits to what a client is told: a score a task, and the value by which candidates are ranked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from rankine._native import best_ids, best_json
from rankine._native import top_k as best_of
from rankine.errors import BadRequest
from rankine.models.schema import Schema

__all__ = ["Scorer", "Scores", "sigmoid32"]

_NO_TASKS: Mapping[str, np.ndarray] = {}
_ONE, _MOST = np.float32(1), np.float32(80)


class Scores(Struct, frozen=True):
    """What is told of some rows.

    Attributes:
        ranking: ``(rows,)`` float32, what candidates are sorted by.
        tasks: float32 ``(rows,)`` by task; empty where the model has one task.
    """

    ranking: np.ndarray
    tasks: Mapping[str, np.ndarray]


class Scorer:
    """The links and the ranking of a schema.

    A ranking that is one task sorts by that task's logit: both links are monotone, and a logit does not saturate. An
    expression is computed in float64, from the scores.
    """

    def __init__(self, schema: Schema) -> None:
        self._names = schema.task_names
        self._sigmoid = tuple(task.link == "sigmoid" for task in schema.tasks)
        self._text = (schema.ranking or self._names[0]).strip()
        self._column = self._names.index(self._text) if self._text in self._names else None
        self._rank = schema.ranking_function()

    def best(self, logits: np.ndarray, top_k: int) -> tuple[np.ndarray, Scores]:
        """Positions of the best ``top_k`` rows of ``logits (rows, tasks)``, best first, and the scores of those.

        Rows that rank alike keep their order.

        Raises:
            BadRequest: the ranking has no finite value for a row.
        """
        if self._column is None:
            values = self._values(logits)
            best: np.ndarray = np.argsort(-values, kind="stable")[:top_k]
            return best, Scores(values[best].astype(np.float32), self._tasks(logits[best]))
        column = logits[:, self._column]
        order: np.ndarray = best_of(np.ascontiguousarray(column), top_k)
        chosen = column.take(order)
        ranking = sigmoid32(chosen) if self._sigmoid[self._column] else chosen
        return order, Scores(ranking, self._tasks(logits[order]) if len(self._names) > 1 else _NO_TASKS)

    def best_ids(self, ids: np.ndarray, logits: np.ndarray, top_k: int) -> tuple[list[int], list[float]] | None:
        """Of ``ids (rows,)`` int64 the best ``top_k``, and their scores; None where that takes more than one look:
        with several tasks, or a ranking that is an expression."""
        if len(self._names) > 1 or self._column is None:
            return None
        return best_ids(ids, logits, top_k, self._sigmoid[0])

    def best_json(self, ids: np.ndarray, logits: np.ndarray, top_k: int) -> tuple[bytes, bytes] | None:
        """The same as JSON lists."""
        if len(self._names) > 1 or self._column is None:
            return None
        return best_json(ids, logits, top_k, self._sigmoid[0])

    def scores(self, logits: np.ndarray) -> Scores:
        """Scores of all rows of ``logits (rows, tasks)``, in their order.

        Raises:
            BadRequest: the ranking has no finite value for a row.
        """
        if self._column is None:
            return Scores(self._values(logits).astype(np.float32), self._tasks(logits))
        column = logits[:, self._column]
        return Scores(sigmoid32(column) if self._sigmoid[self._column] else column, self._tasks(logits))

    def _tasks(self, logits: np.ndarray) -> Mapping[str, np.ndarray]:
        if len(self._names) == 1:
            return _NO_TASKS
        return {
            name: sigmoid32(logits[:, at]) if self._sigmoid[at] else logits[:, at]
            for at, name in enumerate(self._names)
        }

    def _values(self, logits: np.ndarray) -> np.ndarray:
        """The ranking expression's value for every row, float64, within float32's range."""
        wide = logits.astype(np.float64)
        scores = {
            name: _sigmoid(wide[:, at]) if self._sigmoid[at] else wide[:, at] for at, name in enumerate(self._names)
        }
        values = self._rank(scores)
        with np.errstate(over="ignore"):  # beyond float32, in which it is told, is refused just below
            finite = np.isfinite(values.astype(np.float32))
        if not finite.all():
            row = int(np.argmin(finite))
            told = ", ".join(f"{name} {column[row]:.6g}" for name, column in scores.items())
            hint = "A bound in the expression, such as max(score, 1e-6), keeps it finite."
            raise BadRequest(
                "the ranking has no finite value for this request", where=f"row {row}", got=f"'{self._text}' of {told}",
                hint=hint,
            )  # fmt: skip
        return values


def sigmoid32(logits: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` in float32, without overflow."""
    scores: np.ndarray = np.exp(np.minimum(-logits, _MOST))
    scores += _ONE  # in place: requests are small, and each array of its own costs as much as what is done with it
    np.divide(_ONE, scores, out=scores)
    return scores


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """The same in float64, for expressions: scores near one stay apart for longer."""
    scores: np.ndarray = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    return scores

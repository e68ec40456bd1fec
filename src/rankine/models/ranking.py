"""The ranking expression: one number to sort by from the scores of several tasks, such as ``ctr * cvr``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["Ranking", "parse_ranking"]

Ranking = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Scores ``(rows,)`` by task to the value ``(rows,)``, float64."""

_LONGEST = 1000
_LARGEST = 1e300
_TRIALS = 64
_DEEPEST = 100
_BINARY: dict[type[ast.operator], np.ufunc] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_FUNCTIONS: dict[str, np.ufunc] = {"log": np.log, "exp": np.exp, "sqrt": np.sqrt, "min": np.minimum, "max": np.maximum}
_ALLOWED = "names of tasks, numbers, + - * / **, parentheses, and log, exp, sqrt, min(a, b), max(a, b)"


def parse_ranking(text: str, tasks: tuple[str, ...]) -> Ranking:
    """The function that an expression over ``tasks`` means.

    Raises:
        ValueError: it is not an expression, or has anything in it but tasks, numbers, operators and known functions.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a ranking expression must have at most {_LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"'{text}' is not an expression: allowed are {_ALLOWED}") from None
    compute = _compile(tree.body, tasks, text)

    def rank(scores: Mapping[str, np.ndarray]) -> np.ndarray:
        wide = {name: np.asarray(values, np.float64) for name, values in scores.items()}
        rows = len(next(iter(wide.values())))
        with np.errstate(all="ignore"):  # what is not finite is refused where it is served
            return np.broadcast_to(compute(wide), (rows,))

    if not any(np.isfinite(rank(trial)).any() for trial in _trials(tasks)):
        raise ValueError(f"'{text}' has no finite value for any scores: does it divide by zero?")
    return rank


def _trials(tasks: tuple[str, ...]) -> list[dict[str, np.ndarray]]:
    """Scores that are probabilities, and scores of any size and sign: ``(rows,)`` by task."""
    random = np.random.default_rng(0)
    return [
        {task: random.uniform(0.01, 0.99, _TRIALS) for task in tasks},
        {task: random.normal(0, 10, _TRIALS) for task in tasks},
    ]


def _compile(node: ast.expr, tasks: tuple[str, ...], text: str, depth: int = 1) -> Ranking:
    if depth > _DEEPEST:  # each level is a call, here and for every request
        raise ValueError(f"'{text[:40]}...' is nested too deeply: at most {_DEEPEST} operators, one in another")
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            if not abs(number) <= _LARGEST:
                raise ValueError(f"'{text[:40]}' has a number in it that is too large")
            value = np.asarray(number, np.float64)
            return lambda scores: value
        case ast.Name(id=name):
            if name not in tasks:
                raise ValueError(f"'{text}' names '{name}', which is no task: the tasks are {', '.join(tasks)}")
            return lambda scores: scores[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compile(operand, tasks, text, depth + 1)
            return lambda scores: -inner(scores)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            function = _BINARY[type(op)]
            first, second = (_compile(part, tasks, text, depth + 1) for part in (left, right))
            return lambda scores: np.asarray(function(first(scores), second(scores)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            called = _FUNCTIONS[name]
            if len(arguments) != called.nin:
                raise ValueError(f"'{text}': {name} takes {called.nin} value{'s' if called.nin > 1 else ''}")
            parts = [_compile(argument, tasks, text, depth + 1) for argument in arguments]
            return lambda scores: np.asarray(called(*(part(scores) for part in parts)))
    raise ValueError(f"'{text}' has '{ast.unparse(node)}' in it: allowed are {_ALLOWED}")

"""Errors that another process has told, as they were raised there."""

from __future__ import annotations

from collections.abc import Mapping

from rankine import errors
from rankine.errors import RankineError

__all__ = ["error_of"]


def error_of(told: Mapping[str, str]) -> RankineError:
    """The error that ``told`` is the :meth:`~rankine.errors.RankineError.as_dict` of; of the class with that code."""
    known = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RankineError)
    }
    kind = known.get(told.get("code", ""), RankineError)
    return kind(
        told["message"],
        where=told.get("where"),
        got=told.get("got"),
        allowed=told.get("allowed"),
        hint=told.get("hint"),
    )

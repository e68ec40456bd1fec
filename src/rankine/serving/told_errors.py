"""Errors that another process has told, as they were raised there."""

from __future__ import annotations

from collections.abc import Mapping

from rankine import errors
from rankine.errors import RankineError

__all__ = ["error_of"]

_DETAILS = ("where", "got", "allowed", "hint")


def error_of(told: Mapping[str, str], otherwise: type[RankineError] = RankineError) -> RankineError:
    """The error that ``told`` is the :meth:`~rankine.errors.RankineError.as_dict` of.

    It is of the class of :mod:`rankine.errors` with that code; of ``otherwise`` where there is none.
    """
    known = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RankineError)
    }
    kind = known.get(told.get("code", ""), otherwise)
    return kind(told.get("message", ""), **{name: told.get(name) for name in _DETAILS})

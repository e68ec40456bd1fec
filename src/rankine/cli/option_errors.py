"""Errors about settings, in the words of the command line: ``--slo-ms``, where the configuration says ``p99_ms``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rankine.errors import UsageError

if TYPE_CHECKING:
    from rankine.config import Frozen

__all__ = ["naming_options"]


@contextmanager
def naming_options(kind: type[Frozen], flags: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside, usage errors that are about a field of ``kind`` name the option that sets it.

    A field is named by an error's ``where`` (``floor``, ``serve: floor``, ``profile[1]``), or in backquotes in its
    message, its hint and what it allows.

    Args:
        flags: options by field, for those that are not the field's name with dashes.
    """
    options = {name: f"--{name.replace('_', '-')}" for name in kind.model_fields} | dict(flags or {})
    quoted = re.compile("`(" + "|".join(map(re.escape, options)) + ")`")

    def told(text: str | None) -> str | None:
        return None if text is None else quoted.sub(lambda found: options[found[1]], text)

    try:
        yield
    except UsageError as error:
        name, bracket, place = (error.where or "").rpartition(": ")[2].partition("[")
        raise type(error)(
            told(error.message) or "",
            where=f"{options[name]}{bracket}{place}" if name in options else error.where,
            got=error.got,
            allowed=told(error.allowed),
            hint=told(error.hint),
        ) from None

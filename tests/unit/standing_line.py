"""A line that many stand in, so that whoever comes is refused by the front end."""

from __future__ import annotations

import math
from typing import Any

from rankine.policy.front_end import FrontEnd
from rankine.policy.standing import Standing
from rankine.serving.entry import EntryLine
from rankine.serving.reception import Reception

__all__ = ["fall_behind"]


class _StandingLine(EntryLine):
    """As long as that of a server that is far behind."""

    def __init__(self) -> None:
        super().__init__(FrontEnd(Standing()))
        self.rows = len(self)

    def __len__(self) -> int:
        return 1000


def fall_behind(reception: Reception) -> None:
    """From now on many are in line, and nobody is let in to try whether it is so."""
    reception.line = _StandingLine()
    front_end: Any = reception._front_end
    front_end.let_in(math.inf)
    front_end.let_in = lambda now_s: None

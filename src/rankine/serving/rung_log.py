"""What an operator reads of the ladder in the log: its rungs when the server starts, and then every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rankine.serving.logs import LOGGER
from rankine.serving.rungs import ServedRung

__all__ = ["RungLog", "tell_ladder"]

_EVERY_S = 0.1
"""Less than a rung is kept for, so that no step is missed."""
_LEAST_GAP_S = 1.0


def tell_ladder(rungs: Sequence[ServedRung], in_use: Sequence[int], floor: float) -> None:
    """Log the rungs within the floor; warn where they leave no step to go.

    Args:
        in_use: numbers of those that are faster here than all better ones, as the warm-up measured them.
    """
    shown = [
        {
            "variant": rung.variant,
            "engine": rung.engine,
            "form": rung.form,
            "margin": rung.margin,
            **({} if number in in_use else {"left_out": "no faster here than a better rung"}),
        }
        for number, rung in enumerate(rungs)
    ]
    LOGGER.info("ladder", extra={"fields": {"floor": floor, "rungs": shown}})
    if len(in_use) == 1:
        fields = {"floor": floor, "variant": rungs[in_use[0]].variant}
        LOGGER.warning("the ladder has one rung within the floor: there is no step to go", extra={"fields": fields})


class RungLog:
    """Logs when the rung in use changes: one line a second at most, from what was told last to what is now.

    Args:
        rungs: the best first.
        rung: number of the one in use.
    """

    def __init__(self, rungs: Sequence[ServedRung], rung: Callable[[], int]) -> None:
        self._rungs, self._rung = rungs, rung
        self._told = self._seen = 0
        self._steps = 0
        self._told_s = float("-inf")

    def start(self) -> None:
        """Look now and then, until the running event loop ends."""
        loop = asyncio.get_running_loop()
        self.look(loop.time())
        loop.call_later(_EVERY_S, self.start)

    def look(self, now_s: float) -> None:
        """Log a step that was not told yet, unless the last line is less than a second old."""
        at = self._rung()
        self._steps += at != self._seen
        self._seen = at
        if at == self._told or now_s - self._told_s < _LEAST_GAP_S:
            return
        before, now = self._rungs[self._told], self._rungs[at]
        fields = {"from": before.variant, "to": now.variant, "margin": now.margin, "steps": self._steps}
        LOGGER.info("stepped down" if at > self._told else "stepped up", extra={"fields": fields})
        self._told, self._told_s, self._steps = at, now_s, 0

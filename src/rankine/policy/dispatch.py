"""What an idle device of several takes from the queue, and by which of them the queue is planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from rankine.policy.backlog import Backlog
from rankine.policy.batching import Limits, Waiting
from rankine.policy.exploration import Exploration, Trial
from rankine.policy.placement import Device, next_for
from rankine.policy.sizes import Sizes

__all__ = ["Dispatch"]

W = TypeVar("W", bound=Waiting)


class Dispatch:
    """Placement with its state: trials, the sizes of each device's batches, and the device that leads.

    Args:
        lead: place of the device that leads at first.
        explores: whether there are trials.

    Attributes:
        exploration: to be told what began, ran and failed.
    """

    def __init__(self, limits: Limits, lead: int = 0, *, explores: bool = True) -> None:
        self.exploration = Exploration()
        self.lead = lead
        self._explores = explores
        self._sizes = Sizes(limits)

    def next(
        self, device: int, backlog: Backlog[W], devices: Sequence[Device], now_s: float
    ) -> tuple[int | None, Trial | None]:
        """Which of the planned batches an idle device takes, and whether as a trial; None where others are done with
        all of them sooner. Of a batch that is too large for it, what it takes is made one of its own; a trial is of the
        whole batch, as it was planned: its cost and its slack were predicted for that.

        Args:
            device: the one that asks, by its place in ``devices``: all that work.
        """
        planned = backlog.planned
        trial = self.exploration.trial(planned, devices, now_s) if self._explores else None
        if trial is not None and trial.device == device:
            return trial.batch, trial
        shape, left = self._sizes.of(devices[device]), trial.batch if trial else None
        turn = next_for(device, planned, devices, now_s, shape=shape, left=left)
        if turn is None:
            return None, None
        backlog.cut(turn.batch, turn.pieces, now_s)
        return turn.batch, None

    def follow(self, devices: Sequence[Device]) -> bool:
        """Whether another of all devices, in their usual order, leads from now on."""
        before = self.lead
        self.lead = self._sizes.lead(devices, before)
        return self.lead != before

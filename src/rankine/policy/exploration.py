"""When a device is tried that is believed to be slower: a cost model learns only from what runs.

Exploration with a budget, as in conservative bandits (Wu et al. 2016): whatever is tried, all work takes at most a
hundredth longer, and once a tenth of a second, than where each batch goes to the device that is believed best. A belief
that trials confirm is tried more and more rarely, but never not at all: devices change, and who does not look again
never sees it (Garivier & Moulines 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from rankine.policy.batching import FormedBatch, Waiting
from rankine.policy.placement import Device

__all__ = ["Exploration", "ExplorationLimits", "Trial"]

W = TypeVar("W", bound=Waiting)

_ROWS_RATE = 0.02
_USUAL = 0.9
"""Of the mean rows of a batch, those that a trial has at least."""


@dataclass(frozen=True, slots=True)
class ExplorationLimits:
    """What trials may cost, and how often there is one.

    Attributes:
        share: of the time of all batches that trials may add to it.
        most_credit_s: what is left unused of that adds up to so much; the server starts with it.
        slack: a trial is predicted, at its 99th percentile, to take at most this share of the time until the first of
            its requests is due.
        first_s: time without a batch after which a device is tried, at first. ``least_s``: after a trial that was
            faster than predicted by more than ``surprise``. ``most_s``: after trials that were not, each of which
            doubles the time.
        lapse_s: a trial that a device does not begin within so long is left to the others.
    """

    share: float = 0.01
    most_credit_s: float = 0.1
    slack: float = 0.5
    first_s: float = 1.0
    least_s: float = 0.1
    most_s: float = 60.0
    surprise: float = 0.2
    lapse_s: float = 0.01


class Trial(NamedTuple):
    """A batch that a device runs in order to learn what that takes.

    Attributes:
        device, batch: places in the lists that were given.
        worst_s: in which the device is predicted to be done with it, at the 99th percentile.
        best_s: in which the best one is.
    """

    device: int
    batch: int
    worst_s: float
    best_s: float

    @property
    def cost_s(self) -> float:
        """By which the batch is predicted to be done later, at worst."""
        return max(0.0, self.worst_s - self.best_s)


@dataclass(slots=True)
class _Seen:
    """A device: when it last ran something, and after how long without it is tried.

    Attributes:
        offered: a request of the batch that it is to try, since ``offered_s``.
    """

    at_s: float
    interval_s: float
    offered: Waiting | None = None
    offered_s: float = 0.0


@dataclass(slots=True)
class Exploration:
    """The budget, and when each device was last seen to run something. Devices go by their names."""

    limits: ExplorationLimits = field(default_factory=ExplorationLimits)
    credit_s: float = field(init=False)
    _usual_rows: float = field(default=0.0, init=False)
    _seen: dict[str, _Seen] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.credit_s = self.limits.most_credit_s

    def trial(self, batches: Sequence[FormedBatch[W]], devices: Sequence[Device], now_s: float) -> Trial | None:
        """What an idle device should try now, if any should; all others leave it that batch.

        Only a batch of at least the usual size, on which a device shows more than its launch, that has time for it and
        costs no more than there is credit.

        Args:
            batches: as they are planned, the most urgent first.
            devices: all that work, busy ones included.
        """
        if len(devices) < 2 or not batches:
            return None
        for at, device in enumerate(devices):
            seen = self._seen.get(device.name)
            if seen is None:
                self._seen[device.name] = _Seen(now_s, self.limits.first_s)
            elif device.free_s <= now_s and now_s >= seen.at_s + seen.interval_s:
                found = self._affordable(at, batches, devices, now_s)
                if found is not None and not self._lapsed(seen, batches[found.batch], now_s):
                    return found
        return None

    def began(self, trial: Trial, device: str, now_s: float) -> None:
        """A device runs its trial, which is to be given back when that ran or failed: the device may run other batches
        meanwhile."""
        self.credit_s -= trial.cost_s
        seen = self._seen.setdefault(device, _Seen(now_s, self.limits.first_s))
        seen.at_s, seen.offered = now_s, None

    def ran(
        self, device: str, rows: int, predicted_s: float, seconds: float, now_s: float, trial: Trial | None = None
    ) -> None:
        """A batch ran, as a trial or not; ``predicted_s``: before anything was learned from it."""
        limits, seen = self.limits, self._seen.setdefault(device, _Seen(now_s, self.limits.first_s))
        self._usual_rows += _ROWS_RATE * (rows - self._usual_rows) if self._usual_rows else rows
        seen.at_s, seen.offered = now_s, None
        if trial is None:
            self._earn(limits.share * seconds)
            return
        self._earn(trial.cost_s - max(0.0, seconds - trial.best_s))  # it is charged what it did cost
        surprised = seconds < (1.0 - limits.surprise) * predicted_s
        seen.interval_s = limits.least_s if surprised else min(limits.most_s, 2.0 * seen.interval_s)

    def failed(self, device: str, now_s: float) -> None:
        """It gave no answer to its trial."""
        seen = self._seen.get(device)
        if seen is not None:
            seen.at_s = now_s
            seen.interval_s = min(self.limits.most_s, 2.0 * seen.interval_s)

    def _earn(self, seconds: float) -> None:
        self.credit_s = min(self.limits.most_credit_s, self.credit_s + seconds)

    def _lapsed(self, seen: _Seen, batch: FormedBatch[W], now_s: float) -> bool:
        """Whether a device has left its trial lying; then it is as if it had had it. What has vanished meanwhile, as
        its client has, is no fault of the device: another batch is another offer."""
        works = [piece.entry.work for piece in batch.pieces]
        if not any(work is seen.offered for work in works):
            seen.offered, seen.offered_s = works[0], now_s
        if now_s <= seen.offered_s + self.limits.lapse_s:
            return False
        seen.at_s, seen.offered = now_s, None
        return True

    def _affordable(
        self, at: int, batches: Sequence[FormedBatch[W]], devices: Sequence[Device], now_s: float
    ) -> Trial | None:
        cost = devices[at].cost
        for number, batch in enumerate(batches):
            if batch.rows < _USUAL * self._usual_rows:
                continue
            worst_s = cost.predict(batch.rows, batch.requests).p99_s
            if worst_s > self.limits.slack * (batch.due_s - now_s):
                continue
            finish_s = [each.finish_s(batch.rows, batch.requests, now_s) for each in devices]
            best_s = min(finish_s)
            if finish_s[at] == best_s:  # it is its own anyway
                return None
            trial = Trial(at, number, worst_s, best_s - now_s)
            if trial.cost_s <= self.credit_s:
                return trial
        return None

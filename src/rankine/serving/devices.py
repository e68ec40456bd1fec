"""Devices of a pool: what each runs and where, and whether it works."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from rankine.models.columns import Column, Columns
from rankine.serving.cores import core_numbers
from rankine.serving.rungs import ServedRung

__all__ = ["Elsewhere", "Health", "PoolDevice", "Seats", "complete_on"]

_OUT_S, _MOST_OUT_S = 1.0, 60.0


class Seats(Protocol):
    """Processes in which batches run: each thread of a device has a seat in one while it lives."""

    @property
    def up(self) -> int:
        """Processes that can run a batch."""

    @property
    def start_s(self) -> float:
        """How long a process takes to start."""

    def ready(self, timeout_s: float) -> bool:
        """Whether the calling thread has a seat; waits for one."""

    def expect(self, mean_s: float, p99_s: float) -> None:
        """Tell what the calling thread's next batch is predicted to take."""

    def settle(self) -> None:
        """All threads have run what warms an engine up."""

    def close(self) -> None:
        """End all processes, once nothing runs in them any more."""


class Elsewhere(Protocol):
    """Another server that runs a device's batches."""

    @property
    def up(self) -> bool:
        """Whether it can be reached."""

    def within(self, left_s: float) -> None:
        """Tell how long the most urgent request of the calling thread's next batch still has."""


@dataclass(frozen=True, slots=True)
class PoolDevice:
    """Something that runs batches: an engine with its threads, on cores of its own where they are named.

    Attributes:
        name: for people and metrics; no two devices of a pool share it.
        rungs: what it may run, the best first; all devices of a pool have the same variants.
        workers: batches that it runs at the same time.
        cores: that its workers keep to; None: any.
        seats: where batches run in processes, what gives each worker one; None where they run in its threads.
        elsewhere: where another server runs them, that server.
    """

    name: str
    rungs: tuple[ServedRung, ...]
    workers: int = 1
    cores: tuple[int, ...] | None = None
    seats: Seats | None = None
    elsewhere: Elsewhere | None = None

    @property
    def has_own_cores(self) -> bool:
        """Whether its workers have a core that the calling thread may not run on."""
        return self.cores is not None and not set(self.cores) <= set(core_numbers())

    @property
    def up(self) -> bool:
        """Whether it can run anything, as far as is known."""
        return self.elsewhere is None or self.elsewhere.up


@dataclass(slots=True)
class Health:
    """Whether a device gets batches: one that failed is left out for a second, and twice as long each further time.

    Attributes:
        failures: since it last worked.
        out_until_s: it gets nothing before.
    """

    failures: int = 0
    out_until_s: float = -math.inf

    def is_out(self, now_s: float) -> bool:
        """Whether it gets nothing now."""
        return now_s < self.out_until_s

    def failed(self, now_s: float) -> None:
        """Leave it out for a while."""
        self.out_until_s = now_s + min(_MOST_OUT_S, _OUT_S * 2.0 ** min(self.failures, 16))
        self.failures += 1

    def worked(self) -> None:
        """A batch ran."""
        self.failures = 0

    def excuse(self) -> None:
        """Its last failure was the batch's fault, which failed elsewhere too."""
        self.failures = max(0, self.failures - 1)
        self.out_until_s = -math.inf


def complete_on(devices: tuple[PoolDevice, ...], items: Columns) -> Columns:
    """Columns of items, and beside them what every variant computes of an item ahead of time.

    That is the same on all engines (the catalog's part has one engine of its own), so of each variant the first device
    that reads any of it computes it for all.
    """
    added: dict[str, Column] = {}
    for at in range(len(devices[0].rungs)):
        for device in devices:
            found = device.rungs[at].runner.complete(items)
            own = {name: column for name, column in found.items() if name not in items}
            if own:
                added |= own
                break
    return {**items, **added} if added else items

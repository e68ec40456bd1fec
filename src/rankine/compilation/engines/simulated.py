"""A simulated accelerator: the native engine's scores, given out no sooner than a cost model says.

It is for trying a device pool where there is no accelerator: it ranks as the native engine does, and takes as long as a
chip of the launch overhead, transfer and throughput that are asked for would. It is never timed as a chip.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from rankine import __version__
from rankine.compilation.engine import Capabilities, Model, Runner, Target
from rankine.compilation.engines.native import Native
from rankine.config import Frozen, parse
from rankine.errors import EngineError
from rankine.models.columns import Batch, Columns

__all__ = ["Simulated", "SimulatedCost", "SimulatedRunner", "engine"]

_LOGGER = logging.getLogger("rankine.simulated")
_TOLD_AFTER = 32
"""Calls whose scores alone took longer than the cost model says, before it is told: the first ones are always slow."""

Microseconds = Annotated[float, Field(ge=0, le=60e6, allow_inf_nan=False)]


class SimulatedCost(Frozen):
    """How long a call of the simulated accelerator takes: a launch, the rows' way there and back, and their rows.

    Attributes:
        launch_us: of every launch.
        transfer_us: of a row's way to the accelerator and of its scores' way back; only rows that are asked for travel.
        rows_per_ms: what it computes once it runs.
        row_buckets: it computes only so many rows at a time: a call is padded to the next of them, and one of more than
            the largest is launched in parts. Any number of rows if empty.
    """

    launch_us: Microseconds = 300.0
    transfer_us: Microseconds = 0.0
    rows_per_ms: float = Field(4000.0, ge=1e-3, le=1e9, allow_inf_nan=False)
    row_buckets: tuple[Annotated[int, Field(ge=1, le=1 << 24)], ...] = ()

    @field_validator("row_buckets", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return given.split("+") if isinstance(given, str) else given

    @field_validator("row_buckets")
    @classmethod
    def _sorted(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(given)))

    def seconds(self, rows: int) -> float:
        """What a call of ``rows`` rows takes while nothing else runs; nothing of none."""
        if rows < 1:
            return 0.0
        launches, computed = 1, rows
        if self.row_buckets:
            most = self.row_buckets[-1]
            full, rest = divmod(rows, most)
            launches = full + (rest > 0)
            computed = full * most + (self.row_buckets[bisect_left(self.row_buckets, rest)] if rest else 0)
        return 1e-6 * (launches * self.launch_us + rows * self.transfer_us) + 1e-3 * computed / self.rows_per_ms


@dataclass(frozen=True, slots=True)
class Simulated:
    """The engine; see :class:`rankine.compilation.engine.ConfigurableEngine`."""

    cost: SimulatedCost = field(default_factory=SimulatedCost)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="simulated",
            version=__version__,
            lookups=True,
            own=True,
            on_request=True,
            stand_ins={"cpu": "simulated"},
            options={
                "launch_us": "of every launch; 300",
                "transfer_us": "of a row's way there and back; 0",
                "rows_per_ms": "what it computes; 4000",
                "row_buckets": "row counts that it takes; any",
            },
        )

    def configured(self, options: Mapping[str, str]) -> Simulated:
        """The engine with a :class:`SimulatedCost` of these fields.

        Raises:
            ConfigError: an option that it does not have, or a value that makes no sense.
        """
        return Simulated(parse(SimulatedCost, options, source="simulated"))

    def build(self, model: Model, target: Target, folder: Path) -> None:
        Native().build(model, target, folder)

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> SimulatedRunner:
        return SimulatedRunner(Native().open(model, folder, threads=threads), self.cost)

    def open_parts(
        self, request: Model, request_folder: Path, candidate: Model, folder: Path, *, device: str, threads: int
    ) -> SimulatedRunner:
        """See :class:`rankine.compilation.engine.PartsEngine`."""
        parts = Native().open_parts(request, request_folder, candidate, folder, device=device, threads=threads)
        return SimulatedRunner(parts, self.cost)


class SimulatedRunner:
    """Runs what it is given, and returns when the accelerator would; see :class:`rankine.compilation.engine.Runner`.

    Calls at the same time wait for each other, as on one stream of a device: their scores are computed meanwhile, and
    only their times add up. It sleeps, so that neither the GIL nor a core is held.

    Args:
        runner: computes the scores.
        sleep: for so many seconds. ``clock``: what time it is.

    Attributes:
        cost: may be exchanged while it runs: an accelerator that is throttled, say.
        overran: calls whose scores were there only after the accelerator would have been done: the machine is too slow
            to simulate that one.
    """

    def __init__(
        self,
        runner: Runner,
        cost: SimulatedCost,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._runner: Runner | None = runner
        self.cost = cost
        self.overran = 0
        self._sleep, self._clock = sleep, clock
        self._lock = threading.Lock()
        self._free_s = 0.0

    def run(self, batch: Batch, out: np.ndarray) -> None:
        runner = self._runner
        if runner is None:
            raise EngineError("the runner is closed", hint="Open the artifact's runner again.")
        begin_s = self._clock()
        runner.run(batch, out)  # what is refused takes no time of the accelerator
        seconds = self.cost.seconds(batch.rows)
        if not seconds:
            return
        with self._lock:
            self._free_s = done_s = max(begin_s, self._free_s) + seconds
        left_s = done_s - self._clock()
        if left_s > 0:
            self._sleep(left_s)
        else:
            self._behind()

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def _behind(self) -> None:
        with self._lock:
            self.overran += 1
            told = self.overran == _TOLD_AFTER
        if told:
            _LOGGER.warning(
                "the simulated accelerator is slower than its cost model: computing the scores here takes longer; "
                "lower rows_per_ms, or raise launch_us or threads"
            )


def engine() -> Simulated:
    return Simulated()

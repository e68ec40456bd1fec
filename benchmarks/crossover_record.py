"""What a run of `accelerator_crossover.py` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime

from rankine.compilation.engines.simulated import SimulatedCost
from rankine.config import Frozen


class Learned(Frozen):
    """Crossovers over the optimum that were found from one wrong profile, in simulated time; one a seed.

    Attributes:
        rate_rps: offered. ``started``: the crossover of the wrong profile over the optimum.
    """

    wrong: str
    rate_rps: float
    started: float | None
    found: tuple[float | None, ...]


class Live(Frozen):
    """One run of the server's pool, with real threads.

    Attributes:
        factor: on the accelerator's times in the warm-up.
        optimum: rows at which both take the same time.
        started: crossover after the warm-up over the optimum. ``found``: after every hundred requests.
        overran: calls whose scores were there later than the cost model says, of ``calls``.
    """

    cpu: SimulatedCost
    accelerator: SimulatedCost
    factor: float
    optimum: float
    started: float | None
    found: tuple[float | None, ...]
    overran: int
    calls: int


class CrossoverResult(Frozen):
    """All that was measured.

    Attributes:
        cpu, accelerator: the costs of the part in simulated time, whose crossover is best at ``optimum`` rows.
        requests: of each of its runs.
        load: processes that wanted to run on the machine at the end, over the last minutes.
    """

    schema_version: Literal[1] = 1
    kind: Literal["accelerator-crossover"] = "accelerator-crossover"
    cpu: SimulatedCost
    accelerator: SimulatedCost
    optimum: float
    requests: int
    learned: tuple[Learned, ...]
    live: tuple[Live, ...]
    load: float
    created: AwareDatetime
    environment: Mapping[str, Any]

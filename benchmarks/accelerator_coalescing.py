"""How many rows a device pool coalesces for an accelerator under load, and what both devices do together.

In simulated time, by the server's policies, at the costs of `accelerator_crossover.py`, of which it is a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from crossover_record import Coalesced, Who

from rankine.compilation.engines.simulated import SimulatedCost
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Traffic, draw_trace
from rankine.policy.batching import Limits, Shape
from rankine.policy.cost import CostModel

__all__ = ["LIMITS", "RATES_RPS", "coalesced", "efficient_rows"]

LIMITS = Limits(max_batch_rows=16_384)
RATES_RPS: Sequence[float] = (100, 300, 600, 1200, 2000, 2600, 3000, 3400)
DURATION_S, DEADLINE_MS, SEED = 8.0, 50.0, 1
ROWS = (1, 512, 2048)
WRONG = 5.0


def efficient_rows(cost: SimulatedCost) -> int:
    """The smallest batch that reaches 95 % of the peak rate within the limits."""
    return Shape.of(CostModel(_profile(cost)), LIMITS).target_rows


def coalesced(cpu: SimulatedCost, accelerator: SimulatedCost) -> Iterator[Coalesced]:
    """Each device alone, both, and both where the accelerator is taken for slower at first, at all rates."""
    one, other = SimulatedDevice("cpu", _profile(cpu)), SimulatedDevice("accelerator", _profile(accelerator))
    misjudged = SimulatedDevice("accelerator", _profile(accelerator), believed=_profile(accelerator, WRONG))
    crews: dict[Who, tuple[SimulatedDevice, ...]] = {
        "cpu": (one,),
        "accelerator": (other,),
        "pool": (one, other),
        "misjudged": (one, misjudged),
    }
    for rate_rps in RATES_RPS:
        for who, devices in crews.items():
            yield _ran(who, devices, rate_rps)


def _ran(who: Who, devices: tuple[SimulatedDevice, ...], rate_rps: float) -> Coalesced:
    traffic = Traffic(rate_rps=rate_rps, duration_s=DURATION_S, deadline_ms=DEADLINE_MS, seed=SEED)
    ended = SimulatedServer(draw_trace(traffic), Setup(devices, limits=LIMITS, seed=SEED)).run()
    latency_ms = 1000 * ended.latency_s[ended.answered]
    return Coalesced(
        who=who,
        rate_rps=rate_rps,
        goodput_rps=float(ended.on_time.sum()) / DURATION_S,
        p50_ms=float(np.percentile(latency_ms, 50)),
        p99_ms=float(np.percentile(latency_ms, 99)),
        batch_rows={one.name: one.rows / one.batches for one in ended.devices if one.batches},
        share={one.name: one.rows / ended.batch_rows for one in ended.devices},
    )


def _profile(cost: SimulatedCost, factor: float = 1.0) -> tuple[tuple[int, float], ...]:
    return tuple((rows, factor * cost.seconds(rows)) for rows in ROWS)

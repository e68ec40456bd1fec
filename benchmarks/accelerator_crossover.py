"""From which number of rows on a device pool gives a request to a simulated accelerator, beside the optimum.

First in simulated time: the server's policies between a CPU and an accelerator, from profiles that are wrong in several
ways, at several rates; and how many rows they coalesce under load. Then the server's own pool with real threads and
lone requests: a small DCN-v2 with random weights on two simulated devices, one with the cost of a CPU, so that the
optimum is known; the other's speed changes after the warm-up. All costs are four times those in simulated time, since
the scores have to be there in time on the CPU. Three minutes on two cores.

$ python benchmarks/accelerator_crossover.py --work WORK --out benchmarks/results/accelerator-crossover.json
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
from accelerator_coalescing import LIMITS, coalesced, efficient_rows
from crossover_record import CrossoverResult, Learned, Live
from serving.files import write_record
from serving_device_pool import build

from rankine.compilation.engines.simulated import SimulatedCost, SimulatedRunner
from rankine.environment import environment
from rankine.errors import UsageError
from rankine.models.variant import BASELINE
from rankine.planning.simulate_server import SimulatedServer
from rankine.planning.simulate_setup import Setup, SimulatedDevice
from rankine.planning.simulate_traffic import Traffic, draw_trace
from rankine.policy.batching import Limits
from rankine.policy.cost import CostModel
from rankine.policy.placement import Device, place
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel, open_model
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.work import Work

CPU = SimulatedCost(launch_us=50, rows_per_ms=100)
ACCELERATOR = SimulatedCost(launch_us=2950, transfer_us=0.5, rows_per_ms=2000)
ROWS, MOST_ROWS = (1, 512, 2048), 2048
RATES_RPS, SEEDS, REQUESTS = (20, 100, 300), 5, 1000
WRONG: Mapping[str, Callable[[SimulatedCost], float | SimulatedCost]] = {
    "nothing": lambda cost: 1.0,
    "accelerator: a third of its time": lambda cost: 1 / 3,
    "accelerator: half": lambda cost: 1 / 2,
    "accelerator: twice": lambda cost: 2.0,
    "accelerator: three times": lambda cost: 3.0,
    "accelerator: a third of its launch": lambda cost: cost.model_copy(update={"launch_us": cost.launch_us / 3}),
    "accelerator: three launches": lambda cost: cost.model_copy(update={"launch_us": 3 * cost.launch_us}),
    "accelerator: five times": lambda cost: 5.0,
}
SIZES = {"architecture": "dcn_v2", "structure": "parallel", "cross_layers": 1, "hidden": [64]}
LIVE_ROWS, LIVE_MOST_ROWS, LIVE_SCALE = (1, 512, 1024), 1024, 4.0
LIVE_FACTORS, LOOKS, A_LOOK = (1 / 3, 2.0, 3.0, 5.0), 8, 100


def crossover(costs: Sequence[CostModel], most: int = 20_000) -> int | None:
    """The fewest rows that the policy gives to the second device, alone or in part, while both are idle."""
    devices = [Device("cpu", costs[0]), Device("accelerator", costs[1])]
    for rows in range(1, most):
        if any(part.device == 1 for part in place(rows, 1, devices, 0.0).parts):
            return rows
    return None


def over(rows: int | None, optimum: float) -> float | None:
    return None if rows is None else rows / optimum


def optimum_of(cpu: SimulatedCost, accelerator: SimulatedCost) -> float:
    """Rows at which both take the same time."""
    rows = np.arange(1, MOST_ROWS)
    later = np.array([cpu.seconds(int(each)) - accelerator.seconds(int(each)) for each in rows])
    return float(np.interp(0.0, later, rows))


def profile(cost: SimulatedCost, wrong: float | SimulatedCost = 1.0) -> tuple[tuple[int, float], ...]:
    told, factor = (wrong, 1.0) if isinstance(wrong, SimulatedCost) else (cost, wrong)
    return tuple((rows, factor * told.seconds(rows)) for rows in ROWS)


def learned(name: str, rate_rps: float) -> Learned:
    """The crossovers that are found in simulated time."""
    optimum = optimum_of(CPU, ACCELERATOR)
    believed = profile(ACCELERATOR, WRONG[name](ACCELERATOR))
    devices = (
        SimulatedDevice("cpu", profile(CPU)),
        SimulatedDevice("accelerator", profile(ACCELERATOR), believed=believed),
    )
    found = []
    for seed in range(SEEDS):
        traffic = Traffic(
            rate_rps=rate_rps, duration_s=REQUESTS / rate_rps, candidates="lognormal", deadline_ms=200, seed=seed
        )
        ended = SimulatedServer(draw_trace(traffic), Setup(devices, seed=seed)).run()
        found.append(over(crossover(ended.learned), optimum))
    started = crossover([CostModel(profile(CPU)), CostModel(believed)])
    return Learned(wrong=name, rate_rps=rate_rps, started=over(started, optimum), found=tuple(found))


@contextmanager
def started(model: ServedModel, warm: Sequence[Work]) -> Iterator[Pool]:
    """A pool of the model's devices that is warmed up."""
    limits = Limits(max_batch_rows=MOST_ROWS, max_queue_rows=100_000)
    pool = Pool(model.rungs, tasks=1, workers=1, limits=limits, observe=lambda run: None, devices=model.devices)
    pool.start(warm)
    try:
        yield pool
    finally:
        pool.close()


def live(folder: Path, cpu: SimulatedCost, accelerator: SimulatedCost, factor: float) -> Live:
    """Lone requests against the pool, the accelerator of another speed after the warm-up than in it."""
    config = ServeConfig(
        artifact=folder / "artifact",
        catalog=folder / "catalog",
        variant=BASELINE,
        allow_uncertified=True,
        split=False,
        device_pool=tuple(PoolDeviceConfig(engine="simulated", options=options(cost)) for cost in (cpu, accelerator)),
    )
    model = open_model(config)
    protocol = RankProtocol(model, max_candidates=MOST_ROWS)
    simulated = model.devices[1].rungs[0].runner
    if not isinstance(simulated, SimulatedRunner):
        raise UsageError("is served in parts", where=str(folder), hint="Give another --work.")

    def work(rows: int) -> Work:
        [body] = example_bodies(model, count=1, candidates=rows, seed=rows, max_candidates=MOST_ROWS)
        now_s = perf_counter()
        return protocol.prepare(msgspec.json.encode(body), arrived_s=now_s, deadline_s=now_s + 60, announced=None).work

    optimum = optimum_of(cpu, accelerator)
    random = np.random.default_rng(11)
    rows = np.clip(random.lognormal(np.log(optimum), 0.8, (LOOKS, A_LOOK)), 1, LIVE_MOST_ROWS).astype(int).tolist()
    warm = [work(each) for each in LIVE_ROWS for _ in range(4)]
    simulated.cost = scaled(accelerator, factor)
    with started(model, warm) as pool:
        costs = [each[0] for each in pool._desk.elastic.by_device]
        begun = over(crossover(costs), optimum)
        simulated.cost, simulated.overran = accelerator, 0
        before = costs[1].observed
        found = []
        for some in rows:
            asyncio.run(one_by_one(pool, [work(each) for each in some]))
            found.append(over(crossover(costs), optimum))
        calls = costs[1].observed - before
    return Live(
        cpu=cpu,
        accelerator=accelerator,
        factor=factor,
        optimum=optimum,
        started=begun,
        found=tuple(found),
        overran=simulated.overran,
        calls=calls,
    )


def scaled(cost: SimulatedCost, factor: float) -> SimulatedCost:
    """All times of a cost that much longer."""
    return SimulatedCost(
        launch_us=factor * cost.launch_us,
        transfer_us=factor * cost.transfer_us,
        rows_per_ms=cost.rows_per_ms / factor,
        row_buckets=cost.row_buckets,
    )


async def one_by_one(pool: Pool, works: Sequence[Work]) -> None:
    for work in works:
        await pool.run(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the model is built")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = tuple(learned(name, rate_rps) for name in WRONG for rate_rps in RATES_RPS)
    print(f"{len(found)} cells in simulated time", flush=True)
    under_load = tuple(coalesced(CPU, ACCELERATOR))
    print(f"{len(under_load)} runs under load", flush=True)
    build(given.work, ("simulated",), SIZES)
    cpu, accelerator = scaled(CPU, LIVE_SCALE), scaled(ACCELERATOR, LIVE_SCALE)
    lives = []
    for factor in LIVE_FACTORS:
        lives.append(live(given.work, cpu, accelerator, factor))
        print(lives[-1], flush=True)
    write_record(
        given.out,
        CrossoverResult(
            cpu=CPU,
            accelerator=ACCELERATOR,
            optimum=optimum_of(CPU, ACCELERATOR),
            requests=REQUESTS,
            learned=found,
            most_rows=LIMITS.max_batch_rows,
            efficient_rows={"cpu": efficient_rows(CPU), "accelerator": efficient_rows(ACCELERATOR)},
            coalesced=under_load,
            live=tuple(lives),
            load=os.getloadavg()[1],
            created=datetime.now(UTC),
            environment=environment(),
        ),
    )


def options(cost: SimulatedCost) -> dict[str, str]:
    """As a command line gives them."""
    return {
        "launch_us": str(cost.launch_us),
        "transfer_us": str(cost.transfer_us),
        "rows_per_ms": str(cost.rows_per_ms),
    }


if __name__ == "__main__":
    main()

"""Does a second, slower device help: the rate that a pool of two engines sustains, beside the fast one alone.

The server's own pool in one process, with real engine threads, one on each core: DCN-v2 (big) in FP32 with random
weights on the native engine, and on a slower one that is at parity. Requests are encoded ahead, so that the event loop
only hands them over; it runs on the core that the fast engine does not use.

$ python benchmarks/serving_device_pool.py --work WORK --out benchmarks/results/serving-device-pool.json
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np
import torch
from families import VALUES, schema_of
from serving.device_pool import DevicePoolResult, Found, Probe, Who
from serving.files import write_record
from serving.queries import Mix, draw_queries
from serving.traffic import due_times, intensity

from rankine.artifact import Draft
from rankine.catalog import write_catalog
from rankine.compilation.compile import compile_artifact
from rankine.compilation.engine import Runner
from rankine.environment import environment
from rankine.errors import SloNotMet
from rankine.models.columns import Batch, Columns, take
from rankine.models.network import network_of, put_network
from rankine.models.random_rows import random_batch
from rankine.models.schema import CategoricalFeature, Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE
from rankine.models.zoo import build_model
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.cores import pin, pinned
from rankine.serving.devices import PoolDevice
from rankine.serving.model import ServedModel, open_model
from rankine.serving.pool import Pool
from rankine.serving.running import BatchRun
from rankine.serving.warm import warm_works
from rankine.serving.work import Outcome, Work, join
from rankine.stats import percentile

SIZES = {"architecture": "dcn_v2", "structure": "parallel", "cross_layers": 3, "hidden": [1024, 512, 256]}
ITEMS, USERS = 20_000, 2_000
CONTROL_ROWS, CONTROL_TIMES = 512, 21
PRECISION, MOST_PROBES = 0.04, 14
START_UTILIZATION = 0.75
REPEATS = 3


@dataclass(frozen=True)
class Bench:
    """What is driven: the model on both devices, and requests of it."""

    model: ServedModel
    works: Sequence[Work]
    warm: Sequence[Work]
    slo_s: float
    probe_s: float

    def devices(self, who: Who) -> tuple[PoolDevice, ...]:
        """Those of one search, whose pool closes what it is given."""
        fast, slow = (
            replace(device, rungs=tuple(replace(rung, runner=KeptOpen(rung.runner)) for rung in device.rungs))
            for device in self.model.devices
        )
        return {"fast": (fast,), "slow": (slow,), "pool": (fast, slow)}[who]


@dataclass(frozen=True)
class KeptOpen:
    """A runner that outlives its pool: the next search needs it again."""

    runner: Runner

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self.runner.run(batch, out)

    def complete(self, items: Columns) -> Columns:
        return self.runner.complete(items)

    def close(self) -> None:
        """Not yet."""


def build(folder: Path, engines: Sequence[str], sizes: Mapping[str, object] = SIZES) -> None:
    """The model and its catalog, which is written last; only where they are not there."""
    if (folder / "catalog").exists():
        return
    torch.manual_seed(0)
    schema, tables, raw = _drawn()
    module = build_model(schema, tables, sizes).eval()
    for table in module.tables.values():
        torch.nn.init.normal_(table.weight, std=0.3)  # type: ignore[arg-type]
    draft = Draft("train", name="big")
    Transforms.fit(schema, {**raw.request, **raw.item}).write(draft)
    put_network(draft, network_of(module), name=BASELINE, parent=None, steps=(), validation_auc=None, details={})
    rows = random_batch(schema, tables, 64, seed=3)
    compile_artifact(draft.commit(folder / "trained"), engines=engines, verify_batch=rows, out=folder / "artifact")
    write_catalog(folder / "catalog", schema, np.arange(1, ITEMS + 1, dtype=np.int64), raw.item)


def _drawn() -> tuple[Schema, dict[str, int], Batch]:
    """The schema, rows of its tables, and raw features of items and users."""
    schema = schema_of("dcn_v2")
    tables = {one.name: VALUES for one in schema.features if isinstance(one, CategoricalFeature)}
    return schema, tables, random_batch(schema, tables, ITEMS, seed=2)


def open_bench(folder: Path, engines: Sequence[str], cores: Sequence[int], slo_ms: float, probe_s: float) -> Bench:
    """``engines`` and ``cores``: of the fast and of the slow device."""
    pool = tuple(PoolDeviceConfig(engine=one, cores=(core,)) for one, core in zip(engines, cores, strict=True))
    config = ServeConfig(
        artifact=folder / "artifact",
        catalog=folder / "catalog",
        variant=BASELINE,
        device_pool=pool,
        allow_uncertified=True,
    )
    model = open_model(config)
    raw = _drawn()[2].request
    queries = draw_queries(
        [{"row": row} for row in range(USERS)], np.arange(1, ITEMS + 1, dtype=np.int64), Mix(deadline_ms=slo_ms), seed=7
    )
    works = [_work(model, take(raw, np.array([query.request["row"]])), query.ids) for query in queries]
    return Bench(model, works, warm_works(model, 1024), slo_ms / 1000, probe_s)


def _work(model: ServedModel, user: Columns, ids: np.ndarray) -> Work:
    items, index = model.find(model.items, ids, "ids")
    request = model.transforms.encode(model.schema.request_features, user)
    return Work(request, {}, items, np.zeros(len(index), np.int32), index, 1, 0.0, 0.0)


def control_ms(bench: Bench, device: PoolDevice) -> float:
    """Median time of a device for so many rows, nothing else running."""
    work = next(work for work in bench.warm if work.rows == CONTROL_ROWS)
    times = []
    with pinned(device.cores):
        for _ in range(CONTROL_TIMES):
            begin = perf_counter()
            device.rungs[0].runner.run(join([work], lambda items: items), np.empty((work.rows, 1), np.float32))
            times.append(1000 * (perf_counter() - begin))
    return float(np.median(times))


def probe(bench: Bench, pool: Pool, who: Who, repeat: int, rate_rps: float, placed: Counter[str]) -> Probe:
    """Offer a rate for a while."""
    due_s = due_times(rate_rps, intensity("exponential", bench.probe_s, seed=repeat), seed=repeat)
    placed.clear()
    gc.collect()
    begin_cpu_s = thread_time()
    ended = asyncio.run(_offer(bench, pool, due_s))
    loop_ms = 1000 * (thread_time() - begin_cpu_s) / len(due_s)
    latency_s = np.array([latency for latency in ended if latency is not None])
    missed = 1 - float((latency_s <= bench.slo_s).sum()) / len(due_s)
    p99_ms = 1000 * percentile(latency_s, 99) if len(latency_s) else None
    held = missed <= 0.01 and p99_ms is not None and p99_ms <= 1000 * bench.slo_s
    found = Probe(
        who=who,
        repeat=repeat,
        rate_rps=rate_rps,
        requests=len(due_s),
        missed=missed,
        p99_ms=p99_ms,
        loop_ms=loop_ms,
        placements=dict(placed),
        held=held,
    )
    shown = "nothing answered" if p99_ms is None else f"p99 {p99_ms:.1f} ms"
    print(f"  {who} {rate_rps:6.1f}/s: {shown}, missed {missed:.2%}, loop {loop_ms:.2f} ms a request", flush=True)
    return found


async def _offer(bench: Bench, pool: Pool, due_s: np.ndarray) -> list[float | None]:
    """Seconds from when each request was due to its answer; None where it got none."""
    begin_s = perf_counter() + 0.05

    async def one(number: int) -> float | None:
        at_s = begin_s + due_s[number]
        work = replace(bench.works[number % len(bench.works)], arrived_s=at_s, deadline_s=at_s + bench.slo_s)
        found = (await asyncio.gather(pool.run(work), return_exceptions=True))[0]
        return perf_counter() - at_s if isinstance(found, Outcome) else None

    tasks = []
    for number, at in enumerate(due_s.tolist()):
        wait_s = begin_s + at - perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.ensure_future(one(number)))
    return list(await asyncio.gather(*tasks))


def search(bench: Bench, who: Who, repeat: int, start_rps: float) -> tuple[float, list[Probe]]:
    """The highest rate that holds, by steps of 15 % and bisection; 0 where none does."""
    placed: Counter[str] = Counter()

    def ran(batch: BatchRun) -> None:
        placed[f"{batch.device} {batch.placed or 'alone'}"] += 1

    fast, slow = (device.cores or () for device in bench.model.devices)
    pin(fast if who == "slow" else slow)  # the event loop shares no core with the fast engine
    limits = ServeConfig(artifact=Path()).limits
    devices = bench.devices(who)
    pool = Pool(devices[0].rungs, tasks=1, workers=1, limits=limits, observe=ran, devices=devices)
    pool.start(bench.warm)
    probes: list[Probe] = []

    def holds(rate_rps: float) -> bool:
        probes.append(probe(bench, pool, who, repeat, rate_rps, placed))
        return probes[-1].held

    low, high = (start_rps, 0.0) if holds(start_rps) else (0.0, start_rps)
    while (not high or not low) and len(probes) < MOST_PROBES:
        rate_rps = 1.15 * low if low else high / 1.15
        if rate_rps < 1:
            break
        low, high = (rate_rps, high) if holds(rate_rps) else (low, rate_rps)
    while low and high and high / low > 1 + PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    pool.close()
    return low, probes


def measure(bench: Bench, engines: Sequence[str]) -> DevicePoolResult:
    """Fast alone and pool, three times with arrivals of their own; slow alone once."""
    fast, slow = bench.model.devices
    fast_ms, slow_ms = control_ms(bench, fast), control_ms(bench, slow)
    print(f"{engines[0]} {fast_ms:.2f} ms, {engines[1]} {slow_ms:.2f} ms for {CONTROL_ROWS} rows", flush=True)
    probes: list[Probe] = []
    found: list[Found] = []
    mean_rows = float(np.mean([work.rows for work in bench.works]))
    start_rps = START_UTILIZATION * 1000 / (fast_ms * mean_rows / CONTROL_ROWS)
    fast_rps = start_rps
    for repeat in range(REPEATS):
        before_ms = control_ms(bench, fast)
        fast_rps, tried = search(bench, "fast", repeat, fast_rps)
        probes += tried
        if not fast_rps:
            hint = "Its cores must be quiet."
            raise SloNotMet("the fast engine alone sustains no rate", where=f"repeat {repeat}", hint=hint)
        pool_rps, tried = search(bench, "pool", repeat, 1.2 * fast_rps)
        probes += tried
        control = (before_ms, control_ms(bench, fast))
        found.append(Found(repeat=repeat, fast_rps=fast_rps, pool_rps=pool_rps, control_ms=control))
        print(f"repeat {repeat + 1}: fast {fast_rps:.1f}/s, pool {pool_rps:.1f}/s, controls {control}", flush=True)
    slow_rps, tried = search(bench, "slow", 0, fast_rps * fast_ms / slow_ms / 2)
    probes += tried
    return DevicePoolResult(
        model="DCN-v2 (big) in FP32, random weights",
        fast=engines[0],
        slow=engines[1],
        slo_ms=1000 * bench.slo_s,
        fast_ms=fast_ms,
        slow_ms=slow_ms,
        slow_rps=slow_rps,
        loop_ms=float(np.median([one.loop_ms for one in probes if one.who == "pool"])),
        found=tuple(found),
        probes=tuple(probes),
        created=datetime.now(UTC),
        environment=environment(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the model is built")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fast", default="native")
    parser.add_argument("--slow", default="eager")
    parser.add_argument("--cores", default="1,0", help="of the fast and of the slow engine")
    parser.add_argument("--slo-ms", type=float, default=50.0)
    parser.add_argument("--probe-s", type=float, default=6.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    engines, cores = (given.fast, given.slow), [int(core) for core in given.cores.split(",")]
    folder = given.work / "-".join(engines)
    build(folder, engines)
    bench = open_bench(folder, engines, cores, given.slo_ms, given.probe_s)
    result = measure(bench, engines)
    write_record(given.out, result)


if __name__ == "__main__":
    main()

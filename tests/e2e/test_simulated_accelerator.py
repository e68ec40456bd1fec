"""A simulated accelerator in a pool beside an engine on the CPU: real threads, real scores, and who runs what."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import pytest

from e2e.small_served import encoded_batch, rank_body, write_small_artifact, write_small_catalog
from rankine.artifact import Artifact, Draft
from rankine.certification.planned import fastest
from rankine.certification.scoring import served_engines, timings_ms
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.compilation.engines.simulated import SimulatedCost, SimulatedRunner
from rankine.errors import ArtifactError, ConfigError
from rankine.events import ignore
from rankine.models.variant import BASELINE
from rankine.observation.engines import bench_engines
from rankine.policy.batching import Limits
from rankine.serving.config import ServeConfig
from rankine.serving.devices import PoolDevice
from rankine.serving.model import ServedModel, open_model
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.running import BatchRun
from rankine.serving.work import Outcome, Work, join

CPU = {"launch_us": "500", "rows_per_ms": "100"}
ACCELERATOR = {"launch_us": "5000", "transfer_us": "0.5", "rows_per_ms": "2000"}
OPTIMUM = (5000 - 500) / (10 - 1)
"""Rows at which both of them take the same time."""
_LOOKS = 12


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("simulated")
    write_small_artifact(folder / "first")
    write_small_catalog(folder / "compiled")
    return compile_artifact(
        Artifact.open(folder / "first.trained"),
        engines=["native", "onnxruntime", "simulated", "reference"],
        verify_batch=encoded_batch(200, 1),
        out=folder / "compiled",
    )


def served(artifact: Artifact, *devices: dict[str, object]) -> ServedModel:
    fields = {"artifact": Path(artifact.path), "variant": BASELINE, "allow_uncertified": True, "split": False}
    return open_model(ServeConfig.model_validate(fields | {"device_pool": devices}))


class Run:
    """A started pool, what it told, and lone requests for it."""

    def __init__(self, model: ServedModel, devices: Sequence[PoolDevice]) -> None:
        self.runs: list[BatchRun] = []
        self._protocol = RankProtocol(model, max_candidates=2000)
        limits = Limits(max_batch_rows=2048, max_queue_rows=100_000)
        self.pool = Pool(devices[0].rungs, tasks=1, workers=1, limits=limits, observe=self.runs.append, devices=devices)
        self.pool.start([self.work(rows) for rows in (1, 512, 2000) for _ in range(4)])

    def work(self, rows: int) -> Work:
        now_s = perf_counter()
        raw = msgspec.json.encode(rank_body(rows))
        return self._protocol.prepare(raw, arrived_s=now_s, deadline_s=now_s + 60, announced=None).work

    def ask(self, rows: Sequence[int]) -> list[tuple[Work, Outcome]]:
        """One after the other."""

        async def scenario() -> list[tuple[Work, Outcome]]:
            works = [self.work(each) for each in rows]
            return [(work, await self.pool.run(work)) for work in works]

        return asyncio.run(scenario())

    def engines(self, rows: Sequence[int]) -> list[str]:
        """Devices of lone requests."""
        before = len(self.runs)
        self.ask(rows)
        return [run.device for run in self.runs[before:]]


@contextmanager
def running(model: ServedModel) -> Iterator[Run]:
    run = Run(model, model.devices)
    try:
        yield run
    finally:
        run.pool.close()


def accelerator_of(model: ServedModel) -> SimulatedRunner:
    runner = model.devices[-1].rungs[0].runner
    assert isinstance(runner, SimulatedRunner)
    return runner


def test_small_requests_go_to_the_cpu_and_large_ones_to_the_accelerator_when_both_are_idle(artifact: Artifact) -> None:
    model = served(artifact, *({"engine": "simulated", "options": options} for options in (CPU, ACCELERATOR)))
    with running(model) as run:
        answered = run.ask([1, 1000, 8, 2000, 16, 1500, 4])
        small = [run.engines([rows]) for rows in (1, 8, 16, 4)]
        large = [run.engines([rows]) for rows in (1500, 2000)]
    reference = open_runner(artifact, BASELINE, "reference", split=False)
    for work, outcome in answered:
        expected = np.empty((work.rows, 1), np.float32)
        reference.run(join([work], lambda items: items), expected)
        assert (np.abs(outcome.logits - expected) <= 1e-5 * np.maximum(1, np.abs(expected))).all()
    assert small == [["simulated-0"]] * 4
    assert all("simulated-1" in devices for devices in large), large  # which may have divided it with the other


@pytest.mark.parametrize("factor", [1 / 6, 3.0])
def test_crossover_is_found_when_the_accelerator_is_not_what_the_warm_up_saw(artifact: Artifact, factor: float) -> None:
    """Warmed up at another speed, as where it was cold or is throttled; what it then takes is learned from requests."""
    devices = [{"engine": "simulated", "options": options} for options in (CPU, ACCELERATOR)]
    model = served(artifact, *devices)
    accelerator = accelerator_of(model)
    truth = accelerator.cost
    accelerator.cost = SimulatedCost(
        launch_us=factor * truth.launch_us,
        transfer_us=factor * truth.transfer_us,
        rows_per_ms=truth.rows_per_ms / factor,
    )
    random = np.random.default_rng(5)
    rows = np.clip(random.lognormal(np.log(OPTIMUM), 0.8, (_LOOKS, 30)), 1, 2000).astype(int).tolist()
    # To a tenth, in simulated time: tests/unit/test_pool_crossover.py. Here neighbors take the core now and then, which
    # is learned as well and forgotten again: so further apart, and most looks decide. A large one may be divided.
    below, above = int(0.4 * OPTIMUM), int(2 * OPTIMUM)
    with running(model) as run:
        wrong = {name for _ in range(3) for name in run.engines([above if factor > 1 else below])}
        accelerator.cost = truth
        looks = []
        for some in rows:
            run.ask(some)
            looks.append(run.engines([below]) == ["simulated-0"] and "simulated-1" in run.engines([above]))
    assert wrong == {"simulated-0" if factor > 1 else "simulated-1"}
    assert sum(looks[_LOOKS // 2 :]) > _LOOKS // 4, looks


def test_simulated_accelerator_is_neither_timed_nor_planned_when_a_chip_is_beside_it(
    artifact: Artifact,
) -> None:
    assert served_engines(artifact, BASELINE)[-1] == "simulated"
    timed = timings_ms(artifact, BASELINE, encoded_batch(512, 1), ignore)
    assert {name for name, spent_ms in timed.items() if spent_ms == math.inf} == {"simulated"}
    assert fastest(timed) == "native"
    batches = {1: encoded_batch(1, 1)}
    timings = bench_engines(artifact, batches, pairs=[(BASELINE, "simulated")], rows=(1,), repeats=3).timings
    assert timings
    assert all(timing.p50_ms is None and "simulated" in str(timing.error) for timing in timings)


def test_certify_is_refused_when_there_is_nothing_but_a_stand_in(artifact: Artifact, tmp_path: Path) -> None:
    batch = encoded_batch(200, 1)
    only = compile_artifact(artifact, engines=["simulated"], verify_batch=batch, out=tmp_path / "only")
    draft = Draft("test", parent=only)
    for engine in ("native", "onnxruntime"):
        draft.remove(f"variants/{BASELINE}/builds/{engine}/")
    with pytest.raises(ArtifactError, match="nothing that can be timed"):
        timings_ms(draft.commit(tmp_path / "stand-in"), BASELINE, batch, ignore)


def test_pool_is_refused_when_an_engine_has_no_such_option(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match="the engine has no options of its own"):
        served(artifact, {"engine": "native", "options": {"thread": "2"}})
    with pytest.raises(ConfigError, match="Did you mean 'launch_us'"):
        served(artifact, {"engine": "simulated", "options": {"launch": "2"}})

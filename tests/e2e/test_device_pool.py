"""Two real engines share the requests of one server: the scores, the gate, and a server that tells which ran what."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import pytest

from e2e.serve_process import start_server
from e2e.small_served import certify_small, encoded_batch, rank_body, write_small_artifact, write_small_catalog
from rankine.artifact import Artifact
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.errors import CertificateRequired, EngineError, UsageError
from rankine.models.columns import Batch, Columns
from rankine.models.variant import BASELINE
from rankine.policy.reason import Reason
from rankine.serving.config import PoolDeviceConfig, ServeConfig
from rankine.serving.model import ServedModel, open_model
from rankine.serving.pool import Pool
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.rungs import ServedRung
from rankine.serving.running import BatchRun
from rankine.serving.warm import warm_works
from rankine.serving.work import Outcome, Work, join

ENGINES = ("native", "onnxruntime")
TOLERANCE = 2e-5
"""Of a logit, relative to the larger of it and 1: both engines are within 1e-5 of the reference."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Built for both engines and the reference; certified on ONNX Runtime only."""
    folder = tmp_path_factory.mktemp("pool")
    write_small_artifact(folder / "first")
    write_small_catalog(folder / "small")
    compiled = compile_artifact(
        Artifact.open(folder / "first.trained"),
        engines=[*ENGINES, "reference"],
        verify_batch=encoded_batch(200, 1),
        out=folder / "compiled",
    )
    return certify_small(compiled, folder / "small")


def pool_config(artifact: Artifact, **more: object) -> ServeConfig:
    devices = tuple(PoolDeviceConfig(engine=engine) for engine in ENGINES)
    fields = {"artifact": Path(artifact.path), "variant": BASELINE, "port": 0, "device_pool": devices}
    return ServeConfig.model_validate(fields | {"allow_uncertified": True} | more)


class Run:
    """A pool over the artifact's engines, what it told, and what the reference says of a request."""

    def __init__(self, artifact: Artifact, model: ServedModel) -> None:
        self.model, self.runs, self.reasons = model, list[BatchRun](), list[Reason]()
        self._reference = open_runner(artifact, BASELINE, "reference", split=False)
        self._protocol = RankProtocol(model, max_candidates=2000)
        self.pool = Pool(
            model.rungs,
            tasks=1,
            workers=1,
            limits=ServeConfig(artifact=Path()).limits,
            observe=self.runs.append,
            decided=self.reasons.append,
            devices=model.devices,
        )
        self.pool.start(warm_works(model, 2000))

    def works(self, count: int) -> list[Work]:
        random = np.random.default_rng(3)
        found = []
        for number in range(count):
            body = rank_body(int(random.integers(1, 1500)))
            body |= {"request": {**body["request"], "user": number % 40 + 1}}
            raw = msgspec.json.encode(body)
            now_s = perf_counter()
            found.append(self._protocol.prepare(raw, arrived_s=now_s, deadline_s=now_s + 60, announced=None).work)
        return found

    def ask(self, works: list[Work]) -> list[Outcome | BaseException]:
        async def scenario() -> list[Outcome | BaseException]:
            return await asyncio.gather(*(self.pool.run(work) for work in works), return_exceptions=True)

        return asyncio.run(scenario())

    def check(self, works: list[Work], outcomes: list[Outcome | BaseException]) -> None:
        """Every row of every request has the reference's logit."""
        for work, outcome in zip(works, outcomes, strict=True):
            assert isinstance(outcome, Outcome), outcome
            expected = np.empty((work.rows, 1), np.float32)
            self._reference.run(join([work], lambda items: items), expected)
            assert (np.abs(outcome.logits - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()


def test_every_request_has_its_own_scores_when_two_engines_share_them(artifact: Artifact) -> None:
    run = Run(artifact, open_model(pool_config(artifact)))
    works = run.works(60)
    outcomes = run.ask(works)
    alone = run.works(1)
    run.check([*works, *alone], [*outcomes, *run.ask(alone)])
    run.pool.close()
    assert {each.device for each in run.runs} == {"native-0", "onnxruntime-1"}
    assert {each.placed for each in run.runs} <= {Reason.LEAST_FINISH, Reason.SPREAD, Reason.EXPLORE}


class Failing:
    """An engine that works in the warm-up and then no more."""

    def __init__(self, rung: ServedRung) -> None:
        self._runner = rung.runner
        self.broken = False

    def run(self, batch: Batch, out: np.ndarray) -> None:
        if self.broken:
            out[:] = 99.0
            raise EngineError("the device is gone")
        self._runner.run(batch, out)

    def complete(self, items: Columns) -> Columns:
        return self._runner.complete(items)

    def close(self) -> None:
        self._runner.close()


@pytest.mark.parametrize("broken", [0, 1])
def test_all_requests_have_their_scores_when_a_device_breaks(artifact: Artifact, broken: int) -> None:
    model = open_model(pool_config(artifact))
    device = model.devices[broken]
    failing = Failing(device.rungs[0])
    devices = list(model.devices)
    devices[broken] = replace(device, rungs=(replace(device.rungs[0], runner=failing),))
    run = Run(artifact, replace(model, devices=tuple(devices), rungs=devices[0].rungs))
    failing.broken = True
    works = run.works(40)
    run.check(works, run.ask(works))
    run.pool.close()
    assert {each.device for each in run.runs} == {model.devices[1 - broken].name}
    assert Reason.DEVICE_FAILED in run.reasons


def test_pool_is_refused_when_one_of_its_engines_has_no_certificate(artifact: Artifact) -> None:
    with pytest.raises(CertificateRequired, match="on engine 'native'"):
        open_model(pool_config(artifact, allow_uncertified=False))


def test_pool_is_refused_when_a_core_does_not_exist(artifact: Artifact) -> None:
    devices = [{"engine": "native"}, {"engine": "onnxruntime", "cores": [100_000]}]
    with pytest.raises(UsageError, match=r"device_pool\.1\.cores: no such cores here"):
        open_model(pool_config(artifact, device_pool=devices))


def test_server_tells_which_device_ran_what_when_it_has_a_pool(artifact: Artifact) -> None:
    server = start_server(pool_config(artifact))
    engines = set()
    for rows in (1, 300, 1500):
        answer = server.ask("POST", "/v1/rank", rank_body(rows, top_k=3))
        assert answer.status == 200
        engines |= set(answer.json["engine"].split("+"))
    described = server.ask("GET", "/v1/models/small").json
    text = server.ask("GET", "/metrics").body.decode()
    assert server.stop() == 0
    assert engines <= set(ENGINES)
    assert [device["name"] for device in described["devices"]] == ["native-0", "onnxruntime-1"]
    assert sum(text.count(f'rankine_placements_total{{device="{name}"') for name in ("native-0", "onnxruntime-1")) >= 1
    assert 'rankine_prediction_error_count{device="' in text

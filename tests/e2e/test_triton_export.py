"""What ``rankine export triton-server`` takes along and follows, without a Triton server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from e2e.small_served import ENGINE, certify_small, encoded_batch, write_small_catalog
from rankine.artifact import Artifact
from rankine.catalog import Catalog, catalog_beside
from rankine.certification import certify_parity
from rankine.certification.plan import SERVED, parity_file, served_digest
from rankine.cli import _rankine
from rankine.cli.export_triton_server import _profile
from rankine.compilation.compile import compile_artifact
from rankine.config import parse
from rankine.environment import instruction_set
from rankine.errors import CertificateRequired
from rankine.models.variant import BASELINE
from rankine.observation.engines import bench_engines
from rankine.observation.sample import sample_batches
from rankine.serving import ServeConfig
from rankine.serving.config import PoolDeviceConfig
from rankine.serving.gate import choose
from rankine.serving.model import open_model
from rankine.serving.triton.settings import TritonSettings

pytestmark = pytest.mark.e2e
OTHER = "native"


@pytest.fixture
def two_engines(compiled: Artifact, tmp_path: Path) -> Artifact:
    """The small model, built for two engines and certified on one, with its catalog."""
    trained = Artifact.open(compiled.path.with_name(f"{compiled.path.name}.trained"))
    built = compile_artifact(
        trained, engines=[ENGINE, OTHER], verify_batch=encoded_batch(200, 1), out=tmp_path / "built"
    )
    write_small_catalog(tmp_path / "here" / "small")
    return certify_small(built, tmp_path / "here" / "small")


def export(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(_rankine, ["export", "triton-server", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_copy_can_be_served_elsewhere_when_its_right_lies_beside_the_artifact(
    two_engines: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(CertificateRequired):
        export(two_engines.path, tmp_path / "refused", "--copy", "--engine", OTHER)
    logits = np.random.default_rng(1).normal(size=2000)
    parity = certify_parity(
        logits > 0, logits, logits, margin=0.001, variant=BASELINE, engine=OTHER, device="cpu",
        instruction_set=instruction_set(), reference_engine=ENGINE,
        provenance={SERVED: served_digest(two_engines, BASELINE, OTHER)},
    )  # fmt: skip
    beside = two_engines.evidence() / parity_file(BASELINE, OTHER)
    beside.parent.mkdir(parents=True)
    beside.write_text(parity.model_dump_json())
    exported = export(two_engines.path, tmp_path / "models", "--copy", "--engine", OTHER, "--form", "flat")
    assert (exported["engine"], exported["certified"]) == (OTHER, True)

    digest = two_engines.digest
    shutil.move(tmp_path / "models", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "here")
    own = tmp_path / "elsewhere" / "small"
    settings = TritonSettings(
        artifact="artifact", catalog="artifact.catalog", digest=digest, variant=BASELINE, engine=OTHER
    )
    model = open_model(settings.serve_config(own))
    for rung in model.rungs:
        rung.runner.close()
    assert choose(Artifact.open(own / "artifact"), engine=OTHER).certified
    assert model.certified
    model.artifact.verify()
    assert all(view.is_symlink() for view in (own / "artifact" / "files").rglob("*") if view.is_file()), "stored once"


@pytest.mark.parametrize(("second", "certified"), [(ENGINE, True), (OTHER, False)])
def test_served_model_is_not_certified_when_one_device_of_its_pool_is_not(
    two_engines: Artifact, second: str, certified: bool
) -> None:
    pool = tuple(PoolDeviceConfig(engine=engine) for engine in (ENGINE, second))
    model = open_model(ServeConfig(artifact=two_engines.path, device_pool=pool, allow_uncertified=True))
    for device in model.devices:
        device.rungs[0].runner.close()
    assert (model.choice.certified, model.certified) == (True, certified)


def test_profile_is_of_the_threads_and_the_device_that_are_exported(two_engines: Artifact, tmp_path: Path) -> None:
    batches = sample_batches(two_engines, Catalog.open(catalog_beside(two_engines.path)), (1, 64, 512))
    bench = bench_engines(two_engines, batches, threads=(1, 2), repeats=3)
    for threads in (1, 2):
        expected = {one.rows: one.p50_ms for one in bench.served if (one.engine, one.threads) == (ENGINE, threads)}
        config = parse(ServeConfig, {"artifact": two_engines.path, "threads": threads}, source="test")
        assert _profile(config) == expected
    told = export(two_engines.path, tmp_path / "models", "--threads", 3, "--form", "flat")
    assert told["profile"] == {}
    elsewhere = {"artifact": two_engines.path, "device": "gpu", "allow_uncertified": True}
    assert _profile(parse(ServeConfig, elsewhere, source="test")) == {}


def test_form_is_written_once_when_it_is_named_twice(two_engines: Artifact, tmp_path: Path) -> None:
    told = export(two_engines.path, tmp_path / "models", "--form", "rank", "--form", "rank")
    assert told["models"] == [f"{two_engines.name}.rank"]

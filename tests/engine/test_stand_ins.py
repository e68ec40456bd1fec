"""What runs on a chip's stand-in: certified where it runs, never timed, and served without a device being named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.installed import installed_engine
from rankine.artifact import Artifact
from rankine.certification.certify import certify
from rankine.certification.evaluation import held_out_rows
from rankine.certification.parity_here import certify_parity_here
from rankine.certification.plan import place_of, quality_certificates
from rankine.certification.scoring import served_engines, stands_in, timings_ms
from rankine.certification.standing import standings
from rankine.cli import main
from rankine.compilation.compile import compile_artifact, open_runner
from rankine.compression.compress import compress
from rankine.compression.recipe import Quantize, Recipe
from rankine.data import Dataset
from rankine.events import ignore
from rankine.models.variant import BASELINE, variant_names
from rankine.planning.ladder import read_ladder
from rankine.planning.optimize import verification_rows
from rankine.planning.write_ladder import write_ladder
from rankine.serving.gate import choose

pytestmark = pytest.mark.engine

ENGINES = ("native", "qnn", "xla")


@pytest.fixture(scope="module")
def certified(baseline: Artifact, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The baseline and its INT8 form, for the CPU, the emulated HTP and XLA."""
    for name in ENGINES:
        installed_engine(name)
    folder = tmp_path_factory.mktemp("stand-ins")
    int8 = compress(baseline, Recipe(name="whole", passes=(Quantize(),)), dataset, out=folder / "int8")
    rows = verification_rows(int8, dataset)
    compiled = compile_artifact(int8, engines=ENGINES, verify_batch=rows, out=folder / "compiled")
    return certify(compiled, dataset, margin=0.2, out=folder / "certified")


@pytest.fixture(scope="module")
def variant(certified: Artifact) -> str:
    return next(name for name in variant_names(certified) if name != BASELINE)


def test_emulator_is_never_timed_when_a_chip_is_beside_it(certified: Artifact, variant: str, dataset: Dataset) -> None:
    assert stands_in(certified, variant, "qnn")
    assert served_engines(certified, variant)[-1] == "qnn"
    validation, _ = held_out_rows(certified, dataset)
    found = timings_ms(certified, variant, validation.batch, ignore)
    assert {name for name, spent_ms in found.items() if spent_ms == math.inf} == {"qnn"}


def test_ladder_leaves_the_emulator_out_when_it_is_written(
    certified: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    rows = verification_rows(certified, dataset)
    ladder = read_ladder(write_ladder(certified, rows, 0.2, out=tmp_path / "ladder", emit=ignore))
    assert ladder is not None
    assert {one.engine for one in (*ladder.rungs, *ladder.others)} == {choose(certified).engine}


def test_certificates_belong_to_the_device_that_a_build_runs_on(certified: Artifact, variant: str) -> None:
    assert place_of(certified, variant, "qnn").device == "htp"
    quality = quality_certificates(certified)
    assert quality[variant, "qnn"].environment["device"] == "htp"
    primary = choose(certified, variant=variant).engine
    told = standings(certified, variant)
    assert told[primary] == "certified"
    assert told["qnn"] == "certified on htp (the vendor's emulator)"
    assert told["xla"] in ("certified", f"parity with {primary}")
    choice = choose(certified, variant=variant, engine="qnn")
    assert (choice.certified, choice.told) == (True, "certified")
    assert choose(certified, variant=variant, engine="xla").told == told["xla"]


def test_scores_come_from_the_emulator_when_no_device_is_named(
    certified: Artifact, variant: str, dataset: Dataset
) -> None:
    batch = verification_rows(certified, dataset).select(slice(0, 70))
    found = {}
    for engine in ENGINES:
        runner, found[engine] = open_runner(certified, variant, engine), np.full((70, 1), np.nan, np.float32)
        runner.run(batch, found[engine])
        runner.close()
    assert np.abs(found["qnn"] - found["native"]).max() < 0.5
    assert np.abs(found["xla"] - found["native"]).max() < 0.1


def test_every_command_says_the_same_of_what_is_certified(
    certified: Artifact, variant: str, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    report = certify_parity_here(certified, dataset)
    rows = {(row["variant"], row["engine"]): row["result"] for row in report.table_rows()}
    assert rows[variant, "qnn"] == "certified, by a quality certificate of its own"
    told = standings(certified, variant)
    assert rows[variant, "xla"].split(",")[0] == told["xla"]
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(certified.path), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert next(one for one in shown["variants"] if one["name"] == variant)["standing"] == told

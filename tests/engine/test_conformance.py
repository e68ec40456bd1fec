"""The conformance checks over every installed engine, as far as its capability record says it can.

Here on small models, all checks over one and some over every reference model; ``rankine conformance`` runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from engine.installed import installed_engine
from rankine.artifact import Artifact
from rankine.compilation.conformance import CHECKS, Case, build_case, why_not
from rankine.compilation.conformance.lifecycle import leaks
from rankine.compilation.conformance.zoo import INT8, MODELS
from rankine.compilation.engine import Runner
from rankine.compilation.engines import engine_names
from rankine.errors import ConformanceFailed
from rankine.models.columns import Batch
from rankine.models.variant import BASELINE, load_model

pytestmark = pytest.mark.engine

_REDUCED = ("numbers-1", "numbers-64", "bad-ids")
_FEW = ("dcn_v2", "din", "mmoe")
"""Models for engines whose builds take seconds; ``rankine conformance`` has them all."""
_MANY_ROWS = ("numbers-512", "numbers-1000", "changing-rows", "large-batch", "shared-runner")


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "leaks"])
def test_check_passes_when_an_engine_is_held_to_it(case: Case, check: str) -> None:
    if check in _MANY_ROWS and _is_interpreted(case):
        pytest.skip("an interpreter takes seconds for so many rows")
    CHECKS[check](case)


def test_nothing_is_left_behind_when_runners_come_and_go(case: Case) -> None:
    if _is_interpreted(case):
        pytest.skip("an interpreter takes seconds for so many calls")
    leaks(case, cycles=20)


def _is_interpreted(case: Case) -> bool:
    return case.capabilities.runs_on(case.device) == "interpreter"


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize("variant", [BASELINE, INT8])
@pytest.mark.parametrize("name", MODELS)
def test_reference_model_passes_when_an_engine_runs_it(
    reference_model: Callable[[str], Artifact], tmp_path: Path, name: str, variant: str, engine: str
) -> None:
    loaded, model = installed_engine(engine), load_model(reference_model(name), variant)
    devices = loaded.capabilities().devices
    device = "cpu" if "cpu" in devices else devices[0]
    if reason := why_not(loaded.capabilities(), model, device):
        pytest.skip(f"{engine} {reason}")
    if loaded.capabilities().on_request and name not in _FEW:
        pytest.skip(f"{engine} takes seconds to build each")
    if loaded.capabilities().oracle:
        pytest.skip(f"{engine} is what the others are compared with")
    case = build_case(engine, loaded, model, tmp_path, device=device)
    for check in _REDUCED:
        CHECKS[check](case)


class _RoundsByTheBatch:
    """A runner whose logits depend on the rows beside them, as those of dynamic INT8 do."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, batch: Batch, out: np.ndarray) -> None:
        self._runner.run(batch, out)
        if batch.rows:
            out += 0.02 * out.mean()

    def close(self) -> None:
        self._runner.close()


@pytest.mark.parametrize("own_form", [False, True])
def test_rows_that_depend_on_others_are_found_when_an_engine_rounds_by_the_batch(
    reference_model: Callable[[str], Artifact], tmp_path: Path, own_form: bool
) -> None:
    engine, model = installed_engine("native"), load_model(reference_model("dcn_v2"), INT8)
    case = build_case("native", engine, model, tmp_path)
    record = case.capabilities.model_copy(update={"own_int8_form": own_form})

    class Rounding(Case):
        def open(self, threads: int = 1) -> Runner:
            return cast(Runner, _RoundsByTheBatch(super().open(threads)))

    rounding = Rounding(**{**vars(case), "capabilities": record})
    CHECKS["independent-rows"](case)
    with pytest.raises(ConformanceFailed, match="rows beside others: logits of a row depend on the rows beside it"):
        CHECKS["independent-rows"](rounding)


def test_padded_rows_are_few_and_waste_little_when_rows_grow() -> None:
    installed_engine("openvino")
    from rankine.compilation.engines.openvino import padded_rows

    padded = [padded_rows(rows) for rows in range(1, 4097)]
    assert padded[:32] == list(range(1, 33))
    assert all(rows <= given < rows * 17 / 16 for rows, given in enumerate(padded, start=1))
    assert [padded_rows(rows) for rows in (64, 512, 4096)] == [64, 512, 4096]
    assert len(set(padded)) < 160

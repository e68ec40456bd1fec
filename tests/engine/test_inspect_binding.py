"""`rankine inspect` shows what of a variant is computed when."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from engine.networks import Loaded
from rankine.artifact import Artifact, Draft
from rankine.cli import main
from rankine.compilation.binding import BindingPlan, CostModel, Settings, sides_of, split_graph
from rankine.models.variant import BASELINE, load_model

pytestmark = pytest.mark.engine

_FREE = Settings(costs=CostModel(catalog_byte=0, request_byte=0, element=0, slow_element=0))


@pytest.fixture(scope="module")
def whole(loaded: Callable[[str], Loaded]) -> Artifact:
    return loaded("packed").artifact


@pytest.fixture(scope="module")
def plan(whole: Artifact) -> BindingPlan:
    model = load_model(whole, BASELINE)
    return split_graph(onnx.load(model.graph), sides_of(model.schema), _FREE).plan


@pytest.fixture(scope="module")
def in_parts(whole: Artifact, plan: BindingPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same artifact with the plan of its baseline."""
    draft = Draft("compiled", parent=whole)
    draft.put_json(f"variants/{BASELINE}/split/plan.json", plan)
    out = tmp_path_factory.mktemp("inspected") / "split"
    draft.commit(out)
    return out


def _inspected(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(["inspect", *arguments])
    assert not left.value.code
    return capsys.readouterr().out


def test_parts_are_shown_when_a_variant_is_split(
    in_parts: Path, plan: BindingPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = _inspected(capsys, str(in_parts))
    lines = [line.split() for line in shown.splitlines()]
    bars = {line[0]: line[1].count("█") for line in lines if len(line) > 3 and "█" in line[1]}
    assert bars.keys() == {"catalog", "request", "candidate"}
    for part, cells in bars.items():
        assert cells == round(48 * getattr(plan.work, part) / plan.work.before)
    assert f"{plan.work.before:,} -> {plan.work.candidate:,} ({plan.work.share:.0%})" in shown
    assert f"{plan.bytes_before:,} -> {plan.bytes_per_row:,}" in shown
    assert f"{plan.stored_bytes_per_item:,} bytes an item" in shown
    names = [column.name.removeprefix("rankine/") for column in plan.stored]
    assert names
    assert all(name in shown for name in names)


def test_no_parts_are_shown_when_a_variant_is_whole(whole: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert "█" not in _inspected(capsys, str(whole.path))


def test_parts_are_in_the_record_when_json_is_asked_for(
    in_parts: Path, plan: BindingPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    [variant] = json.loads(_inspected(capsys, str(in_parts), "--json"))["variants"]
    found = variant["binding"]
    assert [part["part"] for part in found["parts"]] == ["catalog", "request", "candidate"]
    assert [part["macs"] for part in found["parts"]] == [plan.work.catalog, plan.work.request, plan.work.candidate]
    assert found["parts"][0]["features"] == list(plan.catalog_inputs)
    assert sum(value["bytes_per_row"] for value in found["parts"][0]["values"]) == plan.stored_bytes_per_item

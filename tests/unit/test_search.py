"""The parts of a search that decide: fronts, promotion, screening, the space."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest

from rankine.artifact import Draft
from rankine.compression.recipe import Distill, Pass, Prune, Quantize, Recipe, Tuning
from rankine.compression.search import (
    Costing,
    Evaluation,
    Fidelity,
    Judged,
    SearchSettings,
    SearchSpace,
    Target,
    WorkFolder,
    space_of,
)
from rankine.compression.search.evaluate import learns, reduced
from rankine.compression.search.front import fronts, promote, spread
from rankine.compression.search.records import FULL
from rankine.compression.search.screen import screened
from rankine.compression.search.search import _eta, _promoted
from rankine.config import parse
from rankine.errors import ArtifactError, ConfigError, UsageError
from rankine.models.network import Network, Size
from rankine.models.schema import CategoricalFeature, Schema
from rankine.models.tables import Table
from rankine.models.zoo import build_model

BASELINE = Size(parameters=1000, macs_per_row=1000, graph_bytes=4000, table_bytes=6000)
COSTING = Costing(BASELINE, 10.0, Target())


def evaluation(passes: Sequence[Pass], *, macs: int = 100, ms: float = 1.0, key: str = "k") -> Evaluation:
    size = Size(parameters=macs, macs_per_row=macs, graph_bytes=4 * macs, table_bytes=0)
    return Evaluation(key=key, passes=tuple(passes), fidelity="sketch", size=size, latency_ms=ms, seconds=0)


def test_fronts_layer_points_when_some_are_beaten_in_both() -> None:
    points = [(0.1, 3.0), (0.2, 1.0), (0.3, 2.0), (0.05, 9.0), (0.3, 3.5)]
    assert fronts(points) == [[1, 0, 3], [2], [4]]


def test_equal_points_take_turns_when_they_are_on_a_front() -> None:
    assert fronts([(0.1, 1.0), (0.1, 1.0)]) == [[0], [1]]


def test_promote_takes_whole_fronts_and_the_ends_of_the_last_when_there_is_no_room() -> None:
    points = [(0.4, 1.0), (0.3, 2.0), (0.2, 3.0), (0.1, 4.0), (0.5, 5.0)]
    assert promote(points, 4) == [0, 1, 2, 3]
    assert promote(points, 2) == [0, 3]
    assert promote(points, 9) == [0, 1, 2, 3, 4]


def took(seconds: float, *passes: Pass) -> Evaluation:
    return evaluation(passes).model_copy(update={"seconds": seconds})


def test_time_that_is_left_follows_what_trainings_took_when_some_are_known() -> None:
    found = [took(1.0, Prune(tune=None)), took(100.0, Distill()), took(140.0, Distill())]
    assert _eta(found, 3, inf) == "about 6 min left in this round"
    assert _eta(found[:1], 3, inf) == "less than a minute left in this round"
    assert _eta(found, 0, inf) == _eta([], 3, inf) == ""


def test_time_that_is_left_ends_with_the_budget_when_there_is_one() -> None:
    found = [took(120.0, Distill())]
    assert _eta(found, 10, inf) == "about 20 min left in this round"
    assert _eta(found, 10, 300.0) == "about 7 min left in this round", "the budget, and what begins at its end"
    assert _eta(found, 1, 300.0) == "about 2 min left in this round"


def test_each_kind_has_its_places_when_students_lag_behind_at_low_fidelity() -> None:
    def lost(step: Pass, loss: float, ms: float, key: str) -> Evaluation:
        judged = Judged(loss=loss, auc_change=-loss, auc_se=0.001)
        return evaluation([step], ms=ms, key=key).model_copy(update={"judged": judged})

    students = [lost(Distill(hidden=(width,)), 0.1 + width / 1e4, width / 8, f"s{width}") for width in (8, 16, 32)]
    pruned = [lost(Prune(macs=share), 0.001 / share, share, f"p{share}") for share in (0.2, 0.4, 0.8)]
    chosen = _promoted([*students, *pruned], 2, COSTING, SearchSettings())
    assert [each.key for each in chosen] == ["p0.2", "s8"]
    hopeless = lost(Distill(hidden=(64,)), 0.2, 0.1, "s64")
    assert hopeless not in _promoted([*students, hopeless, *pruned], 7, COSTING, SearchSettings())


@pytest.mark.parametrize(("length", "count", "expected"), [(5, 3, [0, 2, 4]), (2, 5, [0, 1]), (4, 1, [0]), (0, 2, [])])
def test_spread_is_even_when_it_chooses(length: int, count: int, expected: list[int]) -> None:
    assert spread(length, count) == expected


def test_smaller_student_is_screened_out_when_a_larger_one_costs_no_more() -> None:
    small = evaluation([Distill(hidden=(24,))], ms=1.0, key="small")
    large = evaluation([Distill(hidden=(32,))], ms=1.0, key="large")
    deep = evaluation([Distill(hidden=(8, 8))], ms=0.9, key="deep")
    assert screened([small, large, deep], COSTING) == [large, deep]


def test_full_cross_matrix_is_larger_than_every_rank_when_students_are_screened() -> None:
    ranked = evaluation([Distill(sizes={"low_rank": 8})], ms=1.0, key="ranked")
    full = evaluation([Distill(sizes={"low_rank": None})], ms=1.0, key="full")
    assert screened([ranked, full], COSTING) == [full]


def test_candidates_far_over_the_target_are_screened_out_when_there_is_one() -> None:
    costing = Costing(BASELINE, 10.0, Target(latency=0.1, macs=0.5))
    near, over = evaluation([Prune(macs=0.5)], ms=1.9), evaluation([Distill()], ms=2.1)
    heavy = evaluation([Prune(macs=0.9)], macs=1001, ms=0.1)
    assert screened([near, over, heavy], costing) == [near]


def test_screening_tells_what_came_closest_when_no_candidate_is_near_the_target() -> None:
    costing = Costing(BASELINE, 10.0, Target(latency=0.01))
    with pytest.raises(UsageError, match=r"comes near.*latency=0\.05 of the baseline"):
        screened([evaluation([Prune()], ms=0.5), evaluation([Distill()], ms=2.0)], costing)


def test_screening_tells_why_when_every_candidate_was_refused() -> None:
    refused = Evaluation(key="k", passes=(Distill(),), fidelity="sketch", refused="needs a reference model", seconds=0)
    with pytest.raises(UsageError, match="needs a reference model"):
        screened([refused], COSTING)


def test_evaluation_is_refused_when_it_has_neither_sizes_nor_a_reason() -> None:
    with pytest.raises(ConfigError, match="sizes and a latency, or the reason"):
        parse(Evaluation, {"key": "k", "passes": [], "fidelity": "full", "seconds": 0})


def test_fidelity_takes_enough_rows_to_learn_from_when_there_are_few() -> None:
    low = Fidelity(rows=0.2, epochs=4)
    assert [low.count(rows) for rows in (1_000, 100_000, 1_000_000)] == [1_000, 50_000, 200_000]
    names = {each.name for each in (low, FULL, Fidelity(rows=0.2), low.model_copy(update={"least_rows": 1}))}
    assert len(names) == 4


def test_passes_learn_shorter_when_fidelity_is_low() -> None:
    low = Fidelity(rows=0.1, epochs=2)
    distill = reduced(Distill(), low, threads=1)
    prune = reduced(Prune(steps=3), low, threads=1)
    assert isinstance(distill, Distill)
    assert isinstance(prune, Prune)
    assert (distill.fit.max_epochs, distill.fit.threads) == (2, 1)
    assert prune.steps == 1
    assert prune.tune is not None
    assert prune.tune.fit.max_epochs == 2
    full = reduced(Prune(steps=3, tune=Tuning()), FULL, threads=1)
    assert isinstance(full, Prune)
    assert full.steps == 3


def test_quantization_learns_on_the_threads_of_the_search_when_it_is_tuned() -> None:
    tuned = reduced(Quantize(sensitivity=1e-4, tune=Tuning()), FULL, threads=3)
    assert isinstance(tuned, Quantize)
    assert tuned.tune is not None
    assert tuned.tune.fit.threads == 3


def test_nothing_learns_when_passes_have_no_tuning() -> None:
    assert learns([Distill()])
    assert not learns([Prune(tune=None), Quantize()])


def test_space_refuses_a_form_when_it_holds_a_quantization() -> None:
    with pytest.raises(ConfigError, match=r"forms\[0\] holds a quantization"):
        parse(SearchSpace, {"forms": [[{"type": "quantize"}]]}, source="space")


@pytest.mark.parametrize("architecture", ["dcn_v2", "dlrm", "deepfm", "wide_deep", "mmoe"])
def test_space_has_students_that_can_be_built_when_model_is_a_reference_model(architecture: str) -> None:
    from rankine.compression.distill import student_of

    features = tuple(CategoricalFeature(name=name, side="item") for name in ("a", "b"))
    schema = Schema(features=features, item_id="id")
    model = build_model(schema, {"a": 10, "b": 10}, {"architecture": architecture, "hidden": [64, 32]})
    network = Network(schema, onnx.ModelProto(), {}, module=model)  # sizes come from the module
    space = space_of(network, students=20)
    students = [form[0] for form in space.forms if form and isinstance(form[0], Distill)]
    assert len(students) == 20
    assert space == space_of(network, students=20), "the same seed draws the same students"
    for student in students:
        built = student_of(model, student.model_copy(update={"warm_start": False}))
        smaller = sum(weight.numel() for weight in built.parameters())
        assert smaller < sum(weight.numel() for weight in model.parameters())
    Recipe(passes=(*space.forms[-1], space.quantizations[0]))


@pytest.mark.parametrize(("rows", "giant"), [(99_999, False), (100_000, True)])
def test_space_splits_tables_in_two_when_one_is_giant(rows: int, giant: bool) -> None:
    schema = Schema(features=(CategoricalFeature(name="a", side="item"),), item_id="id")
    network = Network(schema, onnx.ModelProto(), {"a": Table(np.zeros((rows, 1), np.float32))})
    split = [form for form in space_of(network).forms if any(step.type == "quotient_remainder" for step in form)]
    assert bool(split) == giant


def test_space_has_quantizations_for_what_does_not_pay_and_for_what_is_lost_when_none_are_given() -> None:
    quantizations = SearchSpace(forms=((),)).quantizations
    assert any(one.only_where_faster and one.tables == "mixed" for one in quantizations)
    assert [one.tune is not None for one in quantizations] == [False] * (len(quantizations) - 1) + [True]


def test_work_folder_gives_back_what_was_put_when_opened_again(tmp_path: Path) -> None:
    parent = Draft("train", name="parent").commit(tmp_path / "parent")
    work = WorkFolder(tmp_path / "work", parent, {"seed": 0})
    key = work.key([Prune()], "full")
    found = evaluation([Prune()], key=key).model_copy(update={"judged": Judged(loss=0.1, auc_change=-0.1, auc_se=0.01)})
    assert work.find(key) is None
    work.put(found)
    again = WorkFolder(tmp_path / "work", parent, {"seed": 0})
    assert again.find(again.key([Prune()], "full")) == found


def test_evaluation_is_not_known_when_its_network_is_needed_and_gone(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work", Draft("train", name="parent").commit(tmp_path / "parent"), {})
    work.put(evaluation([Prune()], key="abc"))
    assert work.find("abc") is not None
    assert work.find("abc", network=True) is None
    refused = Evaluation(key="abc", passes=(Prune(),), fidelity="full", refused="no", seconds=0)
    work.put(refused)
    assert work.find("abc", network=True) == refused


def test_keys_differ_when_anything_that_decides_differs(tmp_path: Path) -> None:
    parent = Draft("train", name="parent").commit(tmp_path / "parent")
    first, other = (WorkFolder(tmp_path / "work", parent, {"seed": seed}) for seed in (0, 1))
    keys = [first.key([Prune()], "full"), first.key([Prune()], "0.1x2"), first.key([Prune(macs=0.4)], "full")]
    assert len({*keys, other.key([Prune()], "full")}) == 4


def test_unreadable_record_names_its_file_when_found(tmp_path: Path) -> None:
    parent = Draft("train", name="parent").commit(tmp_path / "parent")
    work = WorkFolder(tmp_path / "work", parent, {})
    work.put(evaluation([], key="abc"))
    (tmp_path / "work" / "evaluations" / "abc.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"abc\.json: .*Remove the file, and it is evaluated again"):
        work.find("abc")

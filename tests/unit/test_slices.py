"""Slices: tested for harm, corrected for their number, and made from columns."""

from __future__ import annotations

import numpy as np
import pytest

from rankine.certification.judging import PairedRows
from rankine.certification.slices import Slice, SliceTest, harm_tests, measure_slices, slices_of
from rankine.config import parse
from rankine.errors import ConfigError, DataError, UsageError
from rankine.metrics import sigmoid

ROWS = 8000


def harmed_in_one_genre(harm: float) -> tuple[PairedRows, list[Slice]]:
    """A variant that ranks one of eight genres by noise, ``harm`` strong."""
    rng = np.random.default_rng(3)
    signal = rng.normal(size=ROWS)
    positive = rng.random(ROWS) < sigmoid(2 * signal)
    genre = rng.integers(0, 8, ROWS)
    variant = signal + 0.05 * rng.normal(size=ROWS) + harm * rng.normal(size=ROWS) * (genre == 3)
    rows = PairedRows(positive, signal, variant, {"user": rng.integers(0, 400, ROWS)})
    return rows, [Slice(f"genre={value}", genre == value) for value in range(8)]


def test_harmed_slice_is_first_and_alone_when_one_slice_is_harmed() -> None:
    rows, slices = harmed_in_one_genre(2.0)
    found = harm_tests(measure_slices(rows, slices), 0.01)
    assert [test.name for test in found if test.harmed] == ["genre=3"]
    assert found[0].name == "genre=3"
    assert found[0].delta is not None
    assert found[0].delta < -0.05
    assert sum(test.rows for test in found) == ROWS


def test_no_slice_is_harmed_when_the_loss_is_within_the_margin() -> None:
    rows, slices = harmed_in_one_genre(0.2)
    found = harm_tests(measure_slices(rows, slices), 0.05)
    assert not any(test.harmed for test in found)
    assert all(test.p_value is not None and test.p_value > 0.5 for test in found)


@pytest.mark.parametrize(("margin", "harmed"), [(0.5, False), (0.4999, True)])
def test_slice_without_variance_is_harmed_only_when_it_loses_more_than_the_margin(margin: float, harmed: bool) -> None:
    positive = np.arange(200) % 2 == 1
    rows = PairedRows(positive, positive * 1.0, np.zeros(200), {"user": np.arange(200) // 4})
    [found] = harm_tests(measure_slices(rows, [Slice("all", np.ones(200, dtype=bool))]), margin)
    assert (found.delta, found.se, found.harmed) == (-0.5, 0.0, harmed)


def test_p_values_are_corrected_by_holm_when_slices_are_several() -> None:
    rows, slices = harmed_in_one_genre(0.6)
    found = harm_tests(measure_slices(rows, slices), 0.01)
    least = found[0]
    assert least.p_value is not None
    assert least.p_adjusted == pytest.approx(min(1.0, 8 * least.p_value))
    alone = harm_tests(measure_slices(rows, [slices[3]]), 0.01)[0]
    assert alone.p_adjusted == alone.p_value == least.p_value


def test_false_alarms_stay_rare_when_no_slice_is_harmed() -> None:
    alarms = 0
    for run in range(200):
        rng = np.random.default_rng([4, run])
        signal = rng.normal(size=1200)
        positive = rng.random(1200) < sigmoid(signal)
        a, b = (signal + 0.3 * rng.normal(size=1200) for _ in range(2))
        genre = rng.integers(0, 4, 1200)
        slices = [Slice(str(value), genre == value) for value in range(4)]
        alarms += any(test.harmed for test in harm_tests(measure_slices(PairedRows(positive, a, b, {}), slices), 0.001))
    assert alarms / 200 < 0.1


def test_slice_is_listed_last_and_not_tested_when_a_class_has_few_rows() -> None:
    rows, slices = harmed_in_one_genre(0.2)
    few = Slice("few", np.arange(ROWS) < 30)
    none = Slice("none", np.zeros(ROWS, dtype=bool))
    found = harm_tests(measure_slices(rows, [few, none, *slices]), 0.01)
    assert [(test.name, test.tested, test.harmed) for test in found[-2:]] == [
        ("few", False, False),
        ("none", False, False),
    ]
    assert "under 50 rows of a class" in found[-1].note
    assert found[-1].rows == 0


def test_dimension_is_left_out_when_the_slice_is_one_value_of_it() -> None:
    rows, _ = harmed_in_one_genre(0.2)
    item = np.arange(ROWS) % 4
    crossed = PairedRows(rows.positive, rows.a, rows.b, {**rows.clusters, "item": item})
    assert harm_tests(measure_slices(crossed, [Slice("item=1", item == 1)]), 0.01)[0].tested
    alone = PairedRows(rows.positive, rows.a, rows.b, {"item": item})
    assert harm_tests(measure_slices(alone, [Slice("item=1", item == 1)]), 0.01)[0].note == "not tested: one cluster"
    few = harm_tests(measure_slices(alone, [Slice("items 1 and 2", (item == 1) | (item == 2))]), 0.01)[0]
    assert few.note == "not tested: 2 clusters by item"


def test_nothing_is_harmed_when_models_are_identical() -> None:
    rows, slices = harmed_in_one_genre(0.2)
    same = PairedRows(rows.positive, rows.a, rows.a, rows.clusters)
    assert all((test.p_value, test.harmed) == (1.0, False) for test in harm_tests(measure_slices(same, slices), 0.001))


def test_slices_are_the_largest_values_and_the_new_and_rare_when_made_from_columns() -> None:
    genre = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"])
    seen = np.array([0, 0, 1, 9, 10, 50, 50, 50, 50, 50, 50])
    found = {one.name: one.rows for one in slices_of({"genre": genre}, train_counts={"item": seen}, largest=2)}
    assert list(found) == ["genre=a", "genre=b", "item new", "item rare (seen 1 to 9 times)"]
    assert found["genre=b"].tolist() == [False] * 5 + [True] * 3 + [False] * 3
    assert np.flatnonzero(found["item new"]).tolist() == [0, 1]
    assert np.flatnonzero(found["item rare (seen 1 to 9 times)"]).tolist() == [2, 3]


def test_slices_are_left_out_when_they_hold_no_row_or_every_row() -> None:
    assert slices_of({"country": np.array(["x"] * 4)}, train_counts={"user": np.array([20, 30, 40, 50])}) == []


def test_slices_are_refused_when_masks_names_or_columns_do_not_fit() -> None:
    rows, slices = harmed_in_one_genre(0.2)
    with pytest.raises(DataError) as refused:
        harm_tests(measure_slices(rows, [Slice("short", np.ones(5, dtype=bool))]), 0.01)
    assert refused.value.where == "slices.short"
    with pytest.raises(UsageError, match="one name"):
        harm_tests(measure_slices(rows, [slices[0], slices[0]]), 0.01)
    with pytest.raises(DataError, match="one value a row"):
        slices_of({"a": np.arange(3), "b": np.arange(4)})


def test_slice_record_is_refused_when_its_harm_was_edited() -> None:
    rows, slices = harmed_in_one_genre(2.0)
    values = harm_tests(measure_slices(rows, slices), 0.01)[0].model_dump(mode="json")
    with pytest.raises(ConfigError, match="does not follow"):
        parse(SliceTest, values | {"harmed": False})

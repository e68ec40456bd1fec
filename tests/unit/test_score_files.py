"""Files of scores: read from every form, aligned row by row, and refused where they are not of the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from rankine.certification.compare import Comparison, compare_scores
from rankine.certification.score_files import pair_scores, read_score_file
from rankine.errors import DataError, UsageError
from rankine.events import Event, Note
from rankine.metrics import sigmoid

ROWS = 4000


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Labels, users, items, and the logits of two models that hardly differ."""
    random = np.random.default_rng(5)
    user, item = random.integers(0, 200, ROWS), random.integers(0, 60, ROWS)
    truth = random.normal(size=ROWS) + random.normal(size=200)[user]
    label = (random.random(ROWS) < sigmoid(truth)).astype(np.int64)
    b = truth + random.normal(scale=0.01, size=ROWS)
    return {"label": label, "user": user, "item": item, "row_id": np.arange(ROWS), "a": truth, "b": b}


def write(path: Path, columns: Mapping[str, np.ndarray]) -> Path:
    """The columns as a file of the kind that its suffix names."""
    match path.suffix:
        case ".npz":
            np.savez(path, **columns)
        case ".csv":
            csv.write_csv(pa.table(dict(columns)), path)
        case _:
            parquet.write_table(pa.table(dict(columns)), path)
    return path


def taken(rows: Mapping[str, np.ndarray], model: str, *names: str) -> dict[str, np.ndarray]:
    return {"score": rows[model], **{name: rows[name] for name in names}}


def compared(folder: Path, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Comparison:
    return compare_scores(write(folder / "a.parquet", a), write(folder / "b.parquet", b), margin=0.05)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_columns_are_the_same_when_read_from_any_form(suffix: str, rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    columns = taken(rows, "a", "label", "user", "item", "row_id")
    found = read_score_file(write(tmp_path / f"scores{suffix}", columns)).columns
    assert found.keys() == columns.keys()
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values)


def test_text_ids_are_bytes_when_they_spell_no_integers(tmp_path: Path) -> None:
    ids = np.array(["u1", "ü2", "007"])
    files = [
        read_score_file(write(tmp_path / name, {"score": np.arange(3.0), "user": ids}))
        for name in ("a.csv", "a.npz", "a.parquet")
    ]
    for file in files:
        assert file.columns["user"].tolist() == [text.encode() for text in ids]


def test_rows_are_aligned_by_row_id_when_both_files_have_it(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(ROWS)
    a = read_score_file(write(tmp_path / "a.parquet", taken(rows, "a", "label", "row_id")))
    shuffled = {name: values[order] for name, values in taken(rows, "b", "label", "row_id", "user").items()}
    paired = pair_scores(a, read_score_file(write(tmp_path / "b.csv", shuffled)))
    np.testing.assert_allclose(paired.b, rows["b"])
    np.testing.assert_array_equal(paired.labels, rows["label"])
    np.testing.assert_array_equal(paired.clusters["user"], rows["user"])


def test_comparison_passes_when_scores_hardly_differ(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = compared(tmp_path, taken(rows, "a", "label", "user", "item"), taken(rows, "b"))
    [certificate] = found.certificates
    assert found.verdict == certificate.verdict == "pass"
    assert {test.name for test in certificate.metrics} >= {"auc", "normalized_entropy", "calibration", "group_auc"}
    assert certificate.clusters == {"user": 200, "item": 60}
    assert {"baseline_scores", "variant_scores", "rows"} <= certificate.provenance.keys()


def test_comparison_fails_when_the_second_model_is_much_worse(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(scale=3, size=ROWS)
    assert compared(tmp_path, taken(rows, "a", "label", "item"), {"score": rows["a"] + noise}).verdict == "fail"


def test_comparison_counts_uses_when_the_same_rows_come_again(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a, b = taken(rows, "a", "label", "item"), taken(rows, "b")
    first, second = (compared(tmp_path, a, b).certificates[0].split_uses for _ in range(2))
    assert second == first + 1


def test_probabilities_give_the_certificate_of_their_logits_when_named(
    rows: dict[str, np.ndarray], tmp_path: Path
) -> None:
    logits = compared(tmp_path, taken(rows, "a", "label", "item"), taken(rows, "b")).certificates[0]
    a = write(tmp_path / "pa.npz", {**taken(rows, "a", "label", "item"), "score": sigmoid(rows["a"])})
    b = write(tmp_path / "pb.npz", {"score": sigmoid(rows["b"])})
    found = compare_scores(a, b, kind="probability", margin=0.05).certificates[0]
    for one, other in zip(found.metrics, logits.metrics, strict=True):
        assert one.delta == pytest.approx(other.delta, abs=1e-9)
    with pytest.raises(UsageError, match=r"look like probabilities.*--scores probability"):
        compare_scores(a, b)
    ranked = compare_scores(a, b, kind="ranking", margin=0.05).certificates[0]
    assert "normalized_entropy" not in {test.name for test in ranked.metrics}


def test_certain_probabilities_are_finite_logits_when_read(tmp_path: Path) -> None:
    scores = np.array([0.0, 0.5, 1.0])
    a = read_score_file(write(tmp_path / "a.npz", {"score": scores, "label": np.array([0, 1, 1])}))
    assert np.isfinite(pair_scores(a, a, kind="probability").a).all()


def test_labels_come_from_a_third_file_when_given(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.npz", taken(rows, "a")), write(tmp_path / "b.npz", taken(rows, "b"))
    labels = write(tmp_path / "labels.csv", {"label": rows["label"], "user": rows["user"]})
    with pytest.raises(DataError, match=r"no labels.*--labels"):
        compare_scores(a, b)
    assert compare_scores(a, b, labels=labels, margin=0.05).certificates[0].clusters == {"user": 200}


def test_rows_are_refused_when_files_are_not_of_the_same(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    whole = taken(rows, "a", "label", "user", "row_id")
    part = {name: values[1:] for name, values in taken(rows, "b").items()}
    with pytest.raises(DataError, match=r"different numbers of rows.*4000 and 3999"):
        compared(tmp_path, whole, part)
    moved = {name: np.roll(values, 1) for name, values in taken(rows, "b", "user").items()}
    with pytest.raises(DataError, match=r"do not agree on the users.*row_id"):
        compared(tmp_path, whole, moved)
    with pytest.raises(DataError, match="row_id 0 is in the first only"):
        compared(tmp_path, whole, {**taken(rows, "b"), "row_id": rows["row_id"] + 1})
    with pytest.raises(DataError, match="row_id is given twice"):
        compared(tmp_path, whole, {**taken(rows, "b"), "row_id": rows["user"]})
    with pytest.raises(DataError, match="row_id is not of one kind"):
        compared(tmp_path, whole, {**taken(rows, "b"), "row_id": np.array([f"r{row}" for row in range(ROWS)])})


def test_values_are_refused_by_row_when_they_are_no_numbers(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    scores = rows["a"].copy()
    scores[6] = np.nan
    with pytest.raises(DataError, match="row 7"):
        read_score_file(write(tmp_path / "a.npz", {"score": scores}))
    with pytest.raises(DataError, match="row 7"):
        read_score_file(write(tmp_path / "a.parquet", {"score": scores}))
    with pytest.raises(DataError, match=r"no column 'score'.*got scores.*Did you mean 'scores'"):
        read_score_file(write(tmp_path / "b.npz", {"scores": scores}))
    with pytest.raises(DataError, match="one value a row"):
        read_score_file(write(tmp_path / "c.npz", {"score": scores[:, None]}))
    with pytest.raises(DataError, match="must be numbers"):
        read_score_file(write(tmp_path / "d.npz", {"score": np.array(["x"])}))
    with pytest.raises(DataError, match="differ in length"):
        read_score_file(write(tmp_path / "e.npz", {"score": np.arange(3.0), "label": np.zeros(2)}))
    with pytest.raises(DataError, match="has no rows"):
        read_score_file(write(tmp_path / "f.npz", {"score": np.empty(0)}))


def test_file_is_refused_when_it_is_of_no_known_form(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"not readable as \.npz"):
        read_score_file(tmp_path / "a.npz")
    np.savez(tmp_path / "objects.npz", score=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"not readable as \.npz"):
        read_score_file(tmp_path / "objects.npz")
    for name in ("a.txt", "missing.npz", "missing.csv", "missing.parquet"):
        with pytest.raises(DataError):
            read_score_file(tmp_path / name)


def uses(folder: Path, columns: Mapping[str, np.ndarray]) -> int:
    """How often the rows of ``columns`` have been used by now."""
    scores = {"score": columns["score"], **({"row_id": columns["row_id"]} if "row_id" in columns else {})}
    files = write(folder / "a.npz", columns), write(folder / "b.npz", scores)
    return compare_scores(*files, margin=0.05).certificates[0].split_uses


@pytest.mark.parametrize("ids", [("user", "item"), ("user",), ("row_id",), ("row_id", "user")])
def test_use_of_the_same_rows_is_counted_when_they_come_in_another_order(
    ids: tuple[str, ...], rows: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKINE_STATE", str(tmp_path))
    columns = taken(rows, "a", "label", *ids)
    order = np.random.default_rng(1).permutation(ROWS)
    assert uses(tmp_path, columns) == 1
    assert uses(tmp_path, {name: values[order] for name, values in columns.items()}) == 2
    narrow = {name: values.astype(np.int32) for name, values in columns.items() if name in ids}
    assert uses(tmp_path, columns | narrow) == 3
    assert uses(tmp_path, columns | {"label": 1 - rows["label"]}) == 1, "other rows"


def test_row_ids_align_when_one_file_has_unsigned_ones(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a = read_score_file(write(tmp_path / "a.npz", taken(rows, "a", "label", "row_id")))
    order = np.random.default_rng(1).permutation(ROWS)
    b = {"score": rows["b"][order], "row_id": rows["row_id"][order].astype(np.uint64)}
    np.testing.assert_array_equal(pair_scores(a, read_score_file(write(tmp_path / "b.npz", b))).b, rows["b"])


@pytest.mark.parametrize("known", [(), ("user",)])
def test_rows_that_are_given_twice_are_told_when_no_id_tells_them_apart(
    known: tuple[str, ...], rows: dict[str, np.ndarray], tmp_path: Path
) -> None:
    def notes(times: int) -> list[str]:
        files = [
            write(tmp_path / f"{model}.npz", {name: np.tile(values, times) for name, values in columns.items()})
            for model, columns in (("a", taken(rows, "a", "label", *known)), ("b", taken(rows, "b")))
        ]
        events: list[Event] = []
        compare_scores(files[0], files[1], margin=0.05, emit=events.append)
        return [event.text for event in events if isinstance(event, Note) and event.task == "scores"]

    assert notes(1) == []
    assert [text.split(" the rows")[0] for text in notes(3)] == ([] if known else ["100% of"])


def test_scores_are_refused_when_their_difference_would_overflow(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    huge = rows["a"] / np.abs(rows["a"]).max() * 1.7e308
    with pytest.raises(DataError, match="within float32"):
        compared(tmp_path, taken(rows, "a", "label"), {"score": huge})

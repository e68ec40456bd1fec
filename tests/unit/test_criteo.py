"""Criteo's logs: small ones in their form, written here."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.data import load_dataset, load_table
from rankine.data.criteo import CRITEO, criteo_files, criteo_schema, stream_criteo
from rankine.data.stream import StreamedDataset
from rankine.errors import DataError, UsageError
from rankine.models.columns import Batch
from rankine.models.schema import DenseFeature
from rankine.models.transforms import Transforms
from rankine.models.zoo import build_model
from rankine.training.config import FitConfig

COUNTS = [f"I{number}" for number in range(1, 14)]
CATEGORIES = [f"C{number}" for number in range(1, 27)]


def lines(rows: int = 300, seed: int = 0) -> list[list[str]]:
    """Rows as the logs have them: counts and categories can be missing, counts negative."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        counts = ["" if rng.random() < 0.2 else str(rng.integers(-2, 500)) for _ in COUNTS]
        categories = ["" if rng.random() < 0.2 else f"{rng.integers(30) * 7919:08x}" for _ in CATEGORIES]
        found.append([str(rng.integers(2)), *counts, *categories])
    return found


def write_logs(path: Path, rows: list[list[str]]) -> Path:
    content = "".join("\t".join(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def encoded(dataset: StreamedDataset) -> tuple[Transforms, Batch]:
    transforms = dataset.fit_transforms(dataset.splits().train)
    return transforms, dataset.encode(transforms)


def test_logs_equal_a_table_of_the_same_values_when_both_are_read(tmp_path: Path) -> None:
    rows = lines()
    streamed = stream_criteo(write_logs(tmp_path / "train.txt", rows), chunk_rows=64)
    columns = dict(zip(("label", *COUNTS, *CATEGORIES), zip(*rows, strict=True), strict=True))
    clipped = {name: [float(max(int(value or 0), 0)) for value in columns[name]] for name in COUNTS}
    plain = {"label": [int(value) for value in columns["label"]], "ad": [0] * 300, "line": list(range(300))}
    parquet.write_table(pa.table({**columns, **clipped, **plain}), tmp_path / "same.parquet")
    loaded = load_table(tmp_path / "same.parquet", CRITEO)
    np.testing.assert_array_equal(streamed.labels, loaded.labels)
    np.testing.assert_array_equal(streamed.splits().test, np.arange(270, 300))  # the newest
    np.testing.assert_array_equal(streamed.splits().train, loaded.splits().train)
    fitted, batch = encoded(streamed)
    expected = loaded.fit_transforms(loaded.splits().train)
    for name in COUNTS:
        np.testing.assert_allclose(fitted.normalization[name].mean, expected.normalization[name].mean, rtol=1e-9)
        np.testing.assert_allclose(fitted.normalization[name].std, expected.normalization[name].std, rtol=1e-9)
    reference = loaded.encode(expected)
    for name in (*COUNTS, *CATEGORIES):
        left, right = batch.pair[name], reference.pair[name]
        assert isinstance(left, np.ndarray)
        assert isinstance(right, np.ndarray)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6, err_msg=name)


def test_missing_and_negative_counts_are_zero_and_missing_categories_a_value(tmp_path: Path) -> None:
    rows = lines(20)
    rows[0][1], rows[1][1], rows[2][1] = "", "-2", "0"
    rows[3][14], rows[4][14], rows[5][14] = "", "", "0badcafe"
    dataset = stream_criteo(write_logs(tmp_path / "day_0", rows))
    _, batch = encoded(dataset)
    counts, categories = batch.pair["I1"], batch.pair["C1"]
    assert isinstance(counts, np.ndarray)
    assert isinstance(categories, np.ndarray)
    assert counts[0, 0] == counts[1, 0] == counts[2, 0]
    assert categories[3] == categories[4] != categories[5]


@pytest.mark.parametrize("rows", [40, 3000])
def test_ids_are_hashes_of_the_values_when_there_are_few_or_many(tmp_path: Path, rows: int) -> None:
    logs = lines(rows)
    dataset = stream_criteo(write_logs(tmp_path / "day_0", logs))
    ids = encoded(dataset)[1].pair["C26"]
    assert isinstance(ids, np.ndarray)
    key = (0).to_bytes(8, "little")
    digests = [hashlib.blake2b(row[-1].encode(), digest_size=8, key=key).digest() for row in logs]
    np.testing.assert_array_equal(ids, [int.from_bytes(digest, "little") % 100_000 for digest in digests])


def test_compressed_logs_equal_plain_ones_when_read(tmp_path: Path) -> None:
    rows = lines()
    plain = stream_criteo(write_logs(tmp_path / "train.txt", rows), chunk_rows=50)
    compressed = stream_criteo(write_logs(tmp_path / "train.txt.gz", rows), chunk_rows=50)
    for name in ("I3", "C9"):
        np.testing.assert_array_equal(encoded(compressed)[1].pair[name], encoded(plain)[1].pair[name])


def test_days_are_read_in_the_order_of_their_numbers_when_a_folder_is_named(tmp_path: Path) -> None:
    rows = lines(60)
    for day, name in ((0, "day_0"), (1, "day_2.gz"), (2, "day_10")):
        write_logs(tmp_path / name, rows[20 * day : 20 * day + 20])
    (tmp_path / "README.md").write_text("not a log")
    dataset = load_dataset(tmp_path)
    assert isinstance(dataset, StreamedDataset)
    assert [path.name for path in criteo_files(tmp_path)] == ["day_0", "day_2.gz", "day_10"]
    np.testing.assert_array_equal(dataset.labels[:, 0], [float(row[0]) for row in rows])
    whole = stream_criteo(write_logs(tmp_path.parent / f"{tmp_path.name}.tsv", rows))
    np.testing.assert_array_equal(encoded(dataset)[1].pair["C5"], encoded(whole)[1].pair["C5"])


def test_sample_is_of_the_same_rows_when_only_some_are_kept(tmp_path: Path) -> None:
    rows = lines()
    whole = stream_criteo(write_logs(tmp_path / "train.txt", rows))
    some = load_dataset(tmp_path / "train.txt", rows=120, seed=7)
    transforms = whole.fit_transforms(whole.splits().train)
    assert some.rows == 120
    assert some.timestamps is not None
    ids, all_ids = some.encode(transforms).pair["C1"], whole.encode(transforms).pair["C1"]
    assert isinstance(all_ids, np.ndarray)
    np.testing.assert_array_equal(ids, all_ids[some.timestamps])


def _without_a_field(row: list[str]) -> None:
    del row[-1]


def _of_a_test_file(row: list[str]) -> None:
    del row[0]


def _with_text_as_label(row: list[str]) -> None:
    row[0] = "click"


def _with_label_two(row: list[str]) -> None:
    row[0] = "2"


def _without_label(row: list[str]) -> None:
    row[0] = ""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_field, r"line 171: has the wrong number of fields \(got 39; allowed: 40"),
        (_of_a_test_file, r"line 171: has the wrong number of fields.*test\.txt"),
        (_with_text_as_label, r"line 171: field 1: is not a label \(got 'click'"),
        (_with_label_two, r"line 171: field 1: is not a label \(got '2'"),
        (_without_label, r"line 171: field 1: is not a label \(got ''"),
    ],
)
def test_error_names_file_and_line_when_a_line_is_malformed(
    tmp_path: Path, spoil: Callable[[list[str]], None], message: str
) -> None:
    rows = lines()
    spoil(rows[170])
    with pytest.raises(DataError, match=r"day_1: " + message):
        stream_criteo([write_logs(tmp_path / "day_0", lines()), write_logs(tmp_path / "day_1", rows)], chunk_rows=50)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [(5, "many", r"line 251: field 6 \(I5\): is not an integer \(got 'many'"), (20, "a\0", "line 251: holds NUL")],
)
def test_error_names_file_and_line_when_a_value_is_wrong(tmp_path: Path, field: int, value: str, message: str) -> None:
    rows = lines()
    rows[250][field] = value
    dataset = stream_criteo(write_logs(tmp_path / "train.txt", rows), chunk_rows=50)
    with pytest.raises(DataError, match=r"train\.txt: " + message):
        encoded(dataset)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.txt", b"", "has no rows"),
        ("train.tsv", b"\n\n", "has no rows"),
        ("train.txt.gz", b"no gzip", "cannot be read"),
    ],
)
def test_logs_are_refused_when_nothing_can_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        stream_criteo(tmp_path / name)


def test_missing_file_is_named_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"day_7: no such file"):
        stream_criteo(tmp_path / "day_7")


def test_folder_of_other_text_is_no_log_when_its_lines_have_other_fields(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a few words\n")
    assert criteo_files(tmp_path) == []
    with pytest.raises(DataError, match="no data found"):
        load_dataset(tmp_path)


def test_own_schema_changes_encodings_and_leaves_fields_out_when_given(tmp_path: Path) -> None:
    path = write_logs(tmp_path / "train.txt", lines())
    smaller = criteo_schema(buckets=50)
    schema = smaller.model_copy(update={"features": smaller.features[10:20]})
    transforms, batch = encoded(stream_criteo(path, schema))
    assert transforms.table_rows() == {f"C{number}": 50 for number in range(1, 8)}
    assert sorted(batch.pair) == sorted(feature.name for feature in schema.features)
    other = schema.model_copy(update={"features": (DenseFeature(name="I14", side="pair"),)})
    with pytest.raises(UsageError, match="I14"):
        stream_criteo(path, other)


def test_training_on_streamed_rows_learns_what_decides_the_label(tmp_path: Path) -> None:
    import torch

    from rankine.training.fit import Examples, fit

    rows = lines(1500)
    for row in rows:
        row[0] = str(int(row[14] < f"{15 * 7919:08x}"))
    few = criteo_schema(buckets=500)
    schema = few.model_copy(update={"features": few.features[11:17]})
    dataset = stream_criteo(write_logs(tmp_path / "train.txt", rows), schema, chunk_rows=200)
    splits = dataset.splits()
    transforms, batch = encoded(dataset)
    torch.manual_seed(0)
    sizes = {"architecture": "dcn_v2", "embedding_dim": 4, "hidden": [8], "cross_layers": 1}
    result = fit(
        build_model(schema, transforms.table_rows(), sizes),
        Examples(batch.select(splits.train), dataset.labels[splits.train]),
        Examples(batch.select(splits.validation), dataset.labels[splits.validation]),
        FitConfig(max_epochs=2, batch_rows=64, learning_rate=0.02, average_decay=0.5, threads=1),
    )
    assert result.validation_auc > 0.95

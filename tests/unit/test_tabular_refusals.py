"""Parquet and CSV tables that are refused: file, column and row are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rankine.data import load_table
from rankine.errors import DataError
from unit.table_files import COLUMNS, SCHEMA, WRITERS, write_csv, write_parquet


def test_files_are_refused_when_of_two_kinds_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no table .got nothing; allowed: \.parquet"):
        load_table(tmp_path, SCHEMA)
    write_parquet(tmp_path / "a.parquet", COLUMNS)
    write_csv(tmp_path / "b.csv", COLUMNS)
    with pytest.raises(DataError, match=r"got a\.parquet, b\.csv"):
        load_table(tmp_path, SCHEMA)
    with pytest.raises(DataError, match=r"got a\.txt"):
        load_table(tmp_path / "a.txt", SCHEMA)


@WRITERS
def test_missing_column_is_refused_with_a_suggestion_when_misspelt(tmp_path: Path, write: Any, name: str) -> None:
    columns = {("postion" if key == "position" else key): values for key, values in COLUMNS.items()}
    with pytest.raises(DataError, match=rf"{name}: has no column 'position'.*Did you mean 'postion'\?"):
        load_table(write(tmp_path / name, columns), SCHEMA)


BAD_VALUES = [
    ("price", [1.0, None, 1.0, 1.0, 1.0], "price', row 2: is missing or NaN"),
    ("price", [1.0, 2.0, 1e300, 1.0, 1.0], "price', row 3: is infinite"),
    ("vector", [[1.0, 2.0]] * 4 + [[1.0]], "vector', row 5: has the wrong width .got 1; allowed: 2"),
    ("vector", [[1.0, 2.0]] * 4 + [None], "vector', row 5: has the wrong width .got 0"),
    ("item", [30, None, 30, 20, 10], "item', row 2: is missing"),
    ("user", ["a", "b", None, "c", "d"], "user', row 3: is missing"),
    ("when", [1, 2, 3, None, 4], "when', row 4: is missing"),
    ("position", [0, 1.5, 0, 0, 0], "position', row 2: is not an integer .got"),
]


@WRITERS
@pytest.mark.parametrize(("column", "values", "message"), BAD_VALUES)
def test_value_is_refused_with_column_and_row_when_missing_or_wrong(
    tmp_path: Path, write: Any, name: str, column: str, values: list[Any], message: str
) -> None:
    path = write(tmp_path / name, {**COLUMNS, column: values})
    with pytest.raises(DataError, match=rf"{name}: column '{message}"):
        load_table(path, SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("price", ["1", "2", "cheap", "1", "1"], "price', row 3: is not a number .got 'cheap'"),
        ("position", ["0", "1", "x", "0", "1"], "position', row 3: is not an integer .got 'x'"),
        ("likes", [[1], ["b"], [], [], []], "likes', row 2: is not an integer .got 'b'"),
        ("when", ["yesterday"] * 5, "when', row 1: is not a time .got yesterday"),
        ("when", ["1", "2.5", "3", "soon", "5"], "when', row 4: is not a time .got soon"),
        ("when", ["2024-05-01", "2024-05-02", "2024-05-32", "x", "y"], "when', row 3: is not a time .got 2024-05-32"),
        ("when", ["2024-05-01T10:00Z"] * 2 + ["2024-05-01T10:00"] * 3, "when', row 3: .*a time zone in every row"),
        ("when", ["1", "2", "nan", "4", "5"], "when', row 3: is not a finite time .got nan"),
        ("user", ["a", "b", "a", "c\0", "c"], "user', row 4: holds NUL"),
    ],
)
def test_text_is_refused_with_column_and_row_when_it_is_no_number(
    tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"column '{message}"):
        load_table(write_csv(tmp_path / "t.csv", {**COLUMNS, column: values}), SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user", [1, 2, 3, 4, 5], "user': must be strings .got int64.*Set dtype: int64"),
        ("user", [["a"]] * 5, "user': must be strings .got list.*Set kind: multi_hot, or sequence"),
        ("hour", [[9]] * 5, "hour': must be integers .got list.*Set kind: multi_hot, or sequence"),
        ("price", [[9.0]] * 5, "price': must be numbers .got list.*Give the feature its width"),
        ("hour", [b"9"] * 5, "hour': must be integers .got binary"),
        ("price", [b"9"] * 5, "price': must be numbers .got binary"),
        ("tags", [1, 2, 3, 4, 5], "tags': must be lists .got int64.*set kind: categorical"),
        ("likes", [[1, None], [], [], [], []], "likes', row 1: is missing"),
        ("tags", [["a"], [], ["b", "a\0"], [], []], "tags', row 3: holds NUL"),
        ("when", [1.0, float("nan"), 2.0, 3.0, 4.0], "when', row 2: is not a finite time"),
        ("when", [b"9"] * 5, "when', row 1: is not a time"),
    ],
)
def test_parquet_column_is_refused_when_of_the_wrong_type(
    tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"column '{message}"):
        load_table(write_parquet(tmp_path / "t.parquet", {**COLUMNS, column: values}), SCHEMA)


def test_error_names_the_extra_when_pyarrow_is_not_installed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", COLUMNS)
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"  # as if it were not there, in a process of its own
        "from rankine.data.arrow import read_columns\nfrom rankine.errors import DataError\nfrom pathlib import Path\n"
        "try: read_columns(Path(sys.argv[1]), ['user'])\n"
        "except DataError as error: sys.stdout.write(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "needs pyarrow" in done.stdout
    assert "pip install 'rankine[data]'" in done.stdout


@pytest.mark.parametrize(("name", "kind"), [("t.parquet", "Parquet"), ("t.csv", "CSV")])
def test_file_is_refused_when_it_is_missing_or_not_a_table(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load_table(tmp_path / name, SCHEMA)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: not readable as {kind}"):
        load_table(tmp_path / name, SCHEMA)


@WRITERS
def test_table_is_refused_when_it_has_no_rows(tmp_path: Path, write: Any, name: str) -> None:
    with pytest.raises(DataError, match="has no rows"):
        load_table(write(tmp_path / name, {key: [] for key in COLUMNS}), SCHEMA)

"""MovieLens in both of its forms: small files, written here; tests/engine reads the real set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankine.config import load_yaml
from rankine.data import Dataset, load_dataset, load_movielens
from rankine.data.movielens import MOVIELENS, MOVIELENS_TWO_TASKS
from rankine.errors import DataError, UsageError
from rankine.models.columns import Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, Hash, MultiHotFeature, Schema, Split, Task

RATINGS = [(1, 20, 5, 978300760), (1, 10, 3, 978302109), (2, 10, 4, 978301968), (9, 30, 1, 978300275)]
USERS = [(1, "F", 1, 10, "48067"), (2, "M", 56, 16, "70072"), (9, "M", 25, 15, "02460-1234")]
MOVIES = [
    (10, "Toy Story", 1995, "Animation|Children's"),
    (20, "Cité des enfants perdus, La (The City)", 1996, "Sci-Fi"),
    (30, "Silent", 2000, ""),
]


def write_dat(folder: Path) -> Path:
    movies = [(movie, f"{title} ({year})", genres) for movie, title, year, genres in MOVIES]
    for name, records in (("ratings", RATINGS), ("users", USERS), ("movies", movies)):
        lines = ["::".join(map(str, record)) + "\n" for record in records]
        (folder / f"{name}.dat").write_text("".join(lines), encoding="latin-1")
    return folder


def write_parquet(folder: Path) -> Path:
    tables = {
        "ratings": (("user", "movie", "rating"), [record[:3] for record in RATINGS]),
        "users": (("user", "gender", "age", "occupation", "zip"), USERS),
        "movies": (("movie", "title", "year", "genres"), MOVIES),
    }
    for name, (columns, records) in tables.items():
        table = pa.table(dict(zip(columns, map(list, zip(*records, strict=True)), strict=True)))
        parquet.write_table(table, folder / f"{name}.parquet")
    return folder


def break_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text(encoding="latin-1").splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")


def genres_of(dataset: Dataset) -> list[list[bytes]]:
    column = dataset.items["genres"]
    assert isinstance(column, Ragged)
    bounds = zip(column.offsets[:-1], column.offsets[1:], strict=True)
    return [column.values[start:end].tolist() for start, end in bounds]


@pytest.mark.parametrize("write", [write_dat, write_parquet])
def test_movielens_has_users_as_requests_and_movies_as_items_when_read(tmp_path: Path, write: object) -> None:
    assert callable(write)
    data = load_movielens(write(tmp_path))
    assert data.name == "movielens"
    assert data.requests["user"].tolist() == [1, 2, 9]  # type: ignore[union-attr]
    assert data.requests["zip"].tolist() == [b"48067", b"70072", b"02460-1234"]  # type: ignore[union-attr]
    assert data.items["year"].tolist() == [1995, 1996, 2000]  # type: ignore[union-attr]
    assert genres_of(data) == [[b"Animation", b"Children's"], [b"Sci-Fi"], []]
    assert data.item_ids.tolist() == [10, 20, 30]
    assert data.request_index.tolist() == [0, 0, 1, 2]
    assert data.item_index.tolist() == [1, 0, 0, 2]
    assert data.labels.tolist() == [[1], [0], [1], [0]]
    assert data.groups is not None
    assert data.groups.tolist() == [1, 1, 2, 9]


def test_both_forms_have_one_hash_when_the_ratings_are_equal(tmp_path: Path) -> None:
    (tmp_path / "dat").mkdir()
    (tmp_path / "parquet").mkdir()
    dat = load_movielens(write_dat(tmp_path / "dat"))
    columns = load_movielens(write_parquet(tmp_path / "parquet"))
    assert dat.provenance["ratings_sha256"] == columns.provenance["ratings_sha256"]
    assert dat.provenance["source"] != columns.provenance["source"]
    assert dat.timestamps is not None
    assert dat.timestamps.tolist() == [record[3] for record in RATINGS]
    assert columns.timestamps is None


def test_movielens_is_read_when_lines_end_as_on_windows(tmp_path: Path) -> None:
    write_dat(tmp_path)
    for path in tmp_path.glob("*.dat"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_movielens(tmp_path).requests["zip"].tolist()[-1] == b"02460-1234"  # type: ignore[union-attr]


def test_load_dataset_finds_movielens_when_given_its_folder(tmp_path: Path) -> None:
    data = load_dataset(write_dat(tmp_path), rows=2)
    assert data.schema is MOVIELENS
    assert (data.rows, len(data.item_ids)) == (2, 3)


@pytest.mark.parametrize("write", [write_dat, write_parquet])
def test_labels_have_two_columns_when_the_schema_has_two_tasks(tmp_path: Path, write: object) -> None:
    assert callable(write)
    data = load_dataset(write(tmp_path), schema=MOVIELENS_TWO_TASKS)
    assert data.schema is MOVIELENS_TWO_TASKS
    assert data.labels.dtype == np.float32
    assert data.labels.tolist() == [[1, 1], [0, 0], [1, 0], [0, 0]]


def test_example_schema_is_that_of_two_tasks_when_read() -> None:
    path = Path(__file__).parents[2] / "examples" / "movielens" / "two_tasks.yaml"
    assert load_yaml(Schema, path) == MOVIELENS_TWO_TASKS
    rank = MOVIELENS_TWO_TASKS.ranking_function()
    assert rank({"liked": np.array([0.5, 0.25]), "loved": np.array([0.25, 0.0])}).tolist() == [0.75, 0.25]


def test_features_are_those_of_the_schema_when_it_has_fewer(tmp_path: Path) -> None:
    schema = MOVIELENS.model_copy(
        update={
            "features": (
                MOVIELENS.features[5],
                MOVIELENS.features[0].model_copy(update={"encoding": Hash(buckets=8)}),
            )
        }
    )
    data = load_dataset(write_dat(tmp_path), schema=schema)
    assert (list(data.requests), list(data.items)) == (["user"], ["movie"])
    assert data.fit_transforms(np.arange(4)).table_rows() == {"movie": 4, "user": 8}


def test_split_is_by_time_when_the_schema_asks_for_it_and_the_ratings_have_one(tmp_path: Path) -> None:
    (tmp_path / "dat").mkdir()
    schema = MOVIELENS.model_copy(
        update={"timestamp": "timestamp", "split": Split(by="time", fractions=(0.5, 0.25, 0.25))}
    )
    parts = load_dataset(write_dat(tmp_path / "dat"), schema=schema).splits()
    assert [parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()] == [[0, 3], [2], [1]]
    with pytest.raises(UsageError, match=r"schema: timestamp: MovieLens brings its own.*got timestamp; allowed: None"):
        load_dataset(write_parquet(tmp_path), schema=schema)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"features": (CategoricalFeature(name="gender_", side="request", dtype="string"),)},
            r"schema: MovieLens brings its own schema, without 'gender_'. Did you mean 'gender'\?",
        ),
        (
            {"features": (CategoricalFeature(name="gender", side="request"),)},
            r"'gender': dtype: .*got int64; allowed: st",
        ),
        ({"features": (CategoricalFeature(name="user", side="item"),)}, r"'user': side: .*got item; allowed: request"),
        ({"features": (DenseFeature(name="age", side="request"),)}, r"'age': kind: .*got dense; allowed: categorical"),
        (
            {"features": (MultiHotFeature(name="genres", side="item", dtype="string", weights="shares"),)},
            r"'genres': weights: .*got shares; allowed: None",
        ),
        ({"group": None}, r"schema: group: .*got None; allowed: user"),
        ({"item_id": "year"}, r"schema: item_id: .*got year; allowed: movie"),
        ({"tasks": (Task(name="a", label="stars"),)}, r"schema: tasks: a: label: .*got stars; allowed: rating"),
    ],
)
def test_schema_is_refused_with_the_difference_when_it_reads_other_columns(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_dataset(write_dat(tmp_path), schema=MOVIELENS.model_copy(update=changes))


def test_rating_is_refused_as_a_label_when_the_task_has_no_threshold(tmp_path: Path) -> None:
    schema = MOVIELENS.model_copy(update={"tasks": (Task(name="liked", label="rating"),)})
    with pytest.raises(DataError, match=r"task 'liked', ratings, row 1: is not a label .got 5\.0.*Give task 'liked'"):
        load_dataset(write_dat(tmp_path), schema=schema)


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("ratings", 3, "2::10::4", r"ratings\.dat:3: is not a record .*user::movie::rating::timestamp"),
        ("ratings", 2, "", r"ratings\.dat:2: is not a record"),
        ("ratings", 4, "9::x::1::0", r"ratings\.dat:4: movie is not an integer .got 'x'"),
        ("ratings", 4, "99999999999999999999::30::1::0", r"ratings\.dat:4: user is not an integer"),
        ("ratings", 1, "1::20::6::0", r"ratings\.dat:1: is not a rating .got 6; allowed: 1 to 5"),
        ("ratings", 2, "3::20::5::0", r"ratings\.dat:2: rates with a user that is not listed .got 3"),
        ("ratings", 2, "1::99::5::0", r"ratings\.dat:2: rates with a movie that is not listed .got 99"),
        ("users", 2, "2,M,56,16,70072", r"users\.dat:2: is not a record .*user::gender::age::occupation::zip"),
        ("users", 2, "1::M::56::16::70072", r"user is listed twice .got 1"),
        ("movies", 1, "10::Toy Story::Animation", r"movies\.dat:1: the title has no year"),
    ],
)
def test_movielens_is_refused_with_file_and_line_when_malformed(
    tmp_path: Path, file: str, line: int, text: str, message: str
) -> None:
    write_dat(tmp_path)
    break_line(tmp_path / f"{file}.dat", line, text)
    with pytest.raises(DataError, match=message):
        load_movielens(tmp_path)


@pytest.mark.parametrize("file", ["users.dat", "movies.dat"])
def test_movielens_is_refused_with_the_file_when_one_is_missing_or_empty(tmp_path: Path, file: str) -> None:
    path = write_dat(tmp_path) / file
    path.write_text("")
    with pytest.raises(DataError, match=f"{file}: is empty"):
        load_movielens(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=f"{file}: no such file"):
        load_movielens(tmp_path)


def test_movielens_is_refused_with_what_is_expected_when_the_folder_holds_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no MovieLens ratings .*ratings\.dat.*ml-1m\.zip"):
        load_movielens(tmp_path)


def test_movielens_parquet_is_refused_with_the_column_when_one_is_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    table = parquet.read_table(tmp_path / "ratings.parquet")
    parquet.write_table(table.rename_columns(["user", "movie", "stars"]), tmp_path / "ratings.parquet")
    with pytest.raises(DataError, match=r"ratings\.parquet: has no column 'rating'"):
        load_movielens(tmp_path)

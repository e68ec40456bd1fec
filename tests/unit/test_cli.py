"""The command line: help is light, errors have their status, and names are suggested."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from e2e.small_served import write_small_artifact
from rankine.cli import _known, doctor, main
from rankine.cli.render import print_table, watch
from rankine.events import Failed, Finished, Note, Progress, Started

VERBS = [
    "demo",
    "train",
    "init",
    "load",
    "inspect",
    "compress",
    "compile",
    "certify",
    "optimize",
    "serve",
    "report",
    "conformance",
    "doctor",
]


def run(*arguments: str) -> int:
    """Exit status of ``rankine ARGUMENTS`` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_help_imports_nothing_heavy_when_asked_for() -> None:
    code = (
        "import sys; from rankine.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'torch', 'onnx', 'openvino', 'pydantic', 'rich') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", [*VERBS, "bench load", "bench engines"])
def test_every_verb_has_an_example_when_help_is_shown(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*verb.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"rankine {verb}" in shown


def test_unknown_verb_is_suggested_when_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trian") == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--epoch", "3", "--out", "x") == 2
    assert "--epoch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "x", "--port", "many"), "'--port': 'many'"),
        (("conformance", "--nope"), "--nope"),
        (("inspect",), "Missing argument"),
        (("trian",), "Did you mean 'train'?"),
        (("certify", "x", "--slice", "age", "--no-slices"), "exclude each other"),
    ],
)
def test_errors_about_options_are_json_when_asked_as_json(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    assert run(*arguments, "--json") == 2
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert error["code"] == "usage"
    assert told in error["message"]
    assert error["where"].startswith("rankine")
    assert told in printed.err


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small model of the server tests, compiled; ``.trained`` is it before."""
    path = tmp_path_factory.mktemp("small") / "artifact"
    write_small_artifact(path)
    return str(path)


def test_unknown_engine_is_told_alike_when_any_verb_is_given_it(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = f"{small}.trained"
    told = set()
    for verb in (
        ("compile", artifact, "--data", "synthetic", "--out", str(tmp_path / "x")),
        ("optimize", artifact, "--data", "synthetic", "--out", str(tmp_path / "x")),
        ("serve", artifact, "--variant", "baseline"),
        ("conformance",),
    ):
        assert run(*verb, "--engine", "natve") == 5, verb
        told.add(capsys.readouterr().err)
    assert len(told) == 1
    assert "unknown engine (got natve). Did you mean 'native'?" in told.pop()


def test_data_of_another_schema_is_refused_alike_when_any_verb_is_given_it(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", "synthetic", "--rows", "1000")
    told = set()
    for verb in (
        ("compress", small, *data, "--out", str(tmp_path / "x")),
        ("compile", small, *data, "--out", str(tmp_path / "x")),
        ("certify", small, *data, "--out", str(tmp_path / "x")),
        ("certify", f"{small}:baseline", f"{small}:baseline", *data),
        ("optimize", small, *data, "--out", str(tmp_path / "x")),
    ):
        assert run(*verb) == 2, verb
        told.add(capsys.readouterr().err)
        assert not (tmp_path / "x").exists()
    assert len(told) == 1
    [error] = told
    assert "synthetic: is read by another schema than the baseline was trained with" in error
    assert "got without the features city, recent, clicks, slot, match; with the features hour, " in error
    assert "Give the same --data as for training" in error


def test_missing_artifact_is_status_two_when_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", str(tmp_path), "--json") == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] == "artifact"
    assert "not an artifact" in printed.err


def test_missing_data_is_status_two_when_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--data", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")) == 2
    assert "nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unreachable_server_is_status_two_when_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "load", "http://127.0.0.1:9", "--duration", "1") == 2
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_doctor_lists_every_engine_when_asked_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    subjects = {finding["subject"] for finding in json.loads(capsys.readouterr().out)}
    assert {"engine reference", "engine eager", "engine onnxruntime", "engine openvino", "native module"} <= subjects


def test_events_are_plain_lines_when_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with watch() as emit:
        emit(Started("work", 2, "rows"))
        emit(Progress("work", 1, "half"))
        emit(Note("work", "found", {"loss": 0.25, "rows": 3}))
        emit(Failed("other", "no such thing"))
        emit(Finished("work", 1.5, "whole"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "work …",
        "  work: found: loss 0.25, rows 3",
        "other: FAILED: no such thing",
        "work: done in 1.5 s whole",
    ]


def test_table_keeps_every_cell_when_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "ms"), [("first", "1.25"), ("second", "12.50")], title="Times")
    printed = capsys.readouterr().out
    for cell in ("Times", "name", "ms", "first", "1.25", "second", "12.50"):
        assert cell in printed


def test_table_keeps_brackets_when_cells_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("what", "next step"), [("engine", "pip install 'rankine[openvino]'")])
    assert "pip install 'rankine[openvino]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bench", "load", "http://127.0.0.1:9", "--cores", "a"), "core numbers"),
        (("bench", "load", "http://127.0.0.1:9", "--out", "nowhere/x.json"), "nowhere"),
        (("init", "model.onnx", "--data", "x.parquet", "--out", "nowhere/x.yaml"), "nowhere"),
        (("bench", "load", "http://127.0.0.1:9", "--sweep", "--rate", "5"), "--rate"),
        (("certify", "nothing", "--margin", "-1", "--out", "x"), "--margin"),
        (("demo", "--margin", "nan"), "--margin"),
        (("optimize", "nothing", "--out", "x", "--recipe", "y", "--search"), "a search makes its own"),
        (("optimize", "nothing", "--out", "x", "--search", "--margin", "calibration=0.02"), "margin of AUC alone"),
        (("train", "--train-seed", "-1", "--out", "x"), "--train-seed"),
        (("train", "--batch-rows", "0", "--out", "x"), "--batch-rows"),
        (("train", "--learning-rate", "nan", "--out", "x"), "learning_rate"),
        (("serve", "nothing", "--cores", "a"), "core numbers"),
    ],
)
def test_bad_option_is_a_usage_error_when_given(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("refused", "hint"),
    [
        (errno.EACCES, "see to the rights"),
        (errno.EROFS, "see to the rights"),
        (errno.EEXIST, "a file lies where a folder is needed"),
        (errno.ENOTDIR, "a file lies where a folder is needed"),
        (errno.ENOSPC, "Make room there"),
    ],
)
def test_file_is_named_when_the_system_refuses_it(refused: int, hint: str) -> None:
    known = _known(OSError(refused, os.strerror(refused), "/there/x.search"))
    assert known is not None
    assert str(known).startswith(f"/there/x.search: cannot be read or written (got {os.strerror(refused)})")
    assert hint in str(known)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a key"),
        OSError("without a number"),
        PermissionError(errno.EPERM, "Operation not permitted"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/tmp/made-and-gone"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused", "/run/never-named.sock"),
        OSError(errno.EIO, "Input/output error", "/there/x"),
    ],
    ids=repr,
)
def test_fault_of_the_program_is_not_the_users_when_it_comes_from_deep_inside(error: Exception) -> None:
    assert _known(error) is None


def run_instead(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """``rankine doctor`` with another body."""
    monkeypatch.setattr(doctor, "command", click.command("doctor")(action))
    main(["doctor"])


def test_traceback_is_kept_when_a_file_of_the_program_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="made-and-gone"):
        run_instead(monkeypatch, (tmp_path / "made-and-gone").read_bytes)


def test_status_is_two_when_a_file_lies_where_a_folder_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        run_instead(monkeypatch, lambda: (tmp_path / "file" / "new").mkdir(parents=True, exist_ok=True))
    assert "file/new: cannot be read or written (got Not a directory)" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_status_is_two_when_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_instead(monkeypatch, lambda: Path("/dev/full").write_text("x", encoding="utf-8"))
    assert "No space left on device). Make room there" in capsys.readouterr().err


def test_unknown_engine_is_told_before_any_work_when_optimizing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("optimize", "nothing", "--engine", "nope", "--out", "x") == 5
    assert "unknown engine (got nope)" in capsys.readouterr().err


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("", 160)])
def test_tables_fit_the_width_that_is_told_and_lose_nothing(
    columns: str, widest: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    words = [f"{letter * 20}" for letter in "abcdef"]
    print_table(("first", *words), [("row", *words)])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= widest
    assert all(printed.count(letter * 5) >= 2 for letter in "abcdef")
    assert "…" not in printed

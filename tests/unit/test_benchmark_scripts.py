"""What the scripts of ``benchmarks/`` share: they are listed, and say in a sentence what is missing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rankine.errors import UsageError
from unit.rendered import ROOT, renderer

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from renderer("script", monkeypatch)


def test_readme_has_every_script_when_it_can_be_run() -> None:
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    runnable = [path.name for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text("utf-8")]
    assert len(runnable) > 20
    assert [name for name in sorted(runnable) if name not in readme] == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("existing_folder", "no such folder: .*nothing"),
        ("existing_artifact", "no such folder: .*nothing"),
        ("movielens_folder", "no such folder: .*nothing"),
        ("existing_file", "no such file: .*nothing"),
    ],
)
def test_argument_is_refused_with_its_path_when_it_is_not_there(
    script: ModuleType, tmp_path: Path, kind: str, said: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        getattr(script, kind)(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("kind", "said"), [("existing_artifact", r"manifest\.json"), ("movielens_folder", r"ratings\.parquet, users")]
)
def test_folder_is_refused_with_what_it_lacks_when_it_is_of_something_else(
    script: ModuleType, tmp_path: Path, kind: str, said: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        getattr(script, kind)(str(tmp_path))


def test_result_file_is_refused_before_the_run_when_its_folder_is_not_there(script: ModuleType, tmp_path: Path) -> None:
    assert script.new_file(str(tmp_path / "result.json")) == tmp_path / "result.json"
    with pytest.raises(argparse.ArgumentTypeError, match=r"no such folder: .*nothing"):
        script.new_file(str(tmp_path / "nothing" / "result.json"))


def test_name_is_refused_with_the_nearest_when_it_is_unknown(script: ModuleType) -> None:
    names = script.known_names(["dlrm", "deepfm"])
    assert names("deepfm,dlrm") == ("deepfm", "dlrm")
    with pytest.raises(argparse.ArgumentTypeError, match=r"no 'dlrn' here\. Did you mean 'dlrm'"):
        names("deepfm,dlrn")


def test_artifact_names_the_script_that_makes_it_when_it_was_not_left(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"benchmarks/compression\.py"):
        script.open_left(tmp_path / "compressed", "compression.py")


def test_script_ends_with_a_sentence_when_it_meets_an_error(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise UsageError("no such folder", where="runs/small")

    with pytest.raises(SystemExit) as ended:
        script.run_script(main)
    assert ended.value.code == UsageError.exit_status
    assert capsys.readouterr().err == "error: runs/small: no such folder\n"

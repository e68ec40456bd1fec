"""``rankine certify A B``: exit status, output and refusals, on files of scores."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest

from rankine.certification import Margins
from rankine.certification.compare import Comparison
from rankine.cli import main
from rankine.cli.margins import parse_margins
from rankine.metrics import sigmoid

ROWS = 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores ``a``, hardly different ones ``b``, and much worse ones ``c``."""
    random = np.random.default_rng(9)
    logits = 2 * random.normal(size=ROWS)
    path = tmp_path_factory.mktemp("scores")
    user = np.arange(ROWS) % 100
    np.savez(path / "a.npz", score=logits, label=random.random(ROWS) < sigmoid(logits), user=user)
    np.savez(path / "b.npz", score=logits + random.normal(scale=0.001, size=ROWS))
    np.savez(path / "c.npz", score=logits + random.normal(scale=4, size=ROWS))
    np.savez(path / "p.npz", score=sigmoid(logits))
    return path


def run(*arguments: object) -> int:
    """Exit status of ``rankine certify ARGUMENTS`` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(["certify", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_status_is_zero_and_the_result_is_written_when_b_passes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    assert run(folder / "a.npz", folder / "b.npz", "--margin", "0.01", "--out", out) == 0
    printed = capsys.readouterr().out
    for text in ("verdict", "pass", "normalized entropy", "group AUC", "0.03"):
        assert text in printed
    found = Comparison.model_validate_json(out.read_text())
    assert found.verdict == "pass"
    assert found.certificates[0].metric_test("ndcg_at_10") is not None


def test_status_is_three_when_b_does_not_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "a.npz", folder / "c.npz") == 3
    printed = capsys.readouterr()
    assert "fail" in printed.out
    assert "B did not pass" in printed.err


def test_json_is_one_document_when_b_does_not_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "a.npz", folder / "c.npz", "--json") == 3
    found = Comparison.model_validate(json.loads(capsys.readouterr().out))
    assert found.verdict == "fail"


def test_margins_of_metrics_decide_when_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loose = ("0.9", "normalized_entropy=9", "calibration=9", "group_auc=none", "ndcg_at_10=0.9")
    assert run(folder / "a.npz", folder / "c.npz", *(part for margin in loose for part in ("--margin", margin))) == 0
    assert "not judged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.npz",), "one file of scores has nothing to be compared with"),
        (("a.npz", "p.npz"), "--scores probability"),
        (("a.npz", "missing.npz"), "no such file"),
        (("a.npz", "runs/small"), "two artifacts, or two files of scores"),
        (("runs/small", "runs/other"), "not an artifact"),
        (("runs/small",), "needs --out FOLDER"),
        (("a.npz", "b.npz", "--data", "synthetic"), "--data has no meaning for files of scores"),
        (("a.npz", "b.npz", "--slice", "user"), "--slice has no meaning"),
        (("runs/small", "--scores", "logit", "--out", "x"), "--scores has no meaning for one artifact"),
        (("runs/small", "--slice", "user", "--no-slices", "--out", "x"), "exclude each other"),
        (("a.npz", "b.npz", "--out", "nowhere/x.json"), "nowhere"),
        (("a.npz", "b.npz", "--out", "."), "'.' is a folder"),
        (("a.npz", "b.npz", "--margin", "acu=0.1"), "Did you mean 'auc'"),
    ],
)
def test_use_is_refused_with_the_next_step_when_it_cannot_work(
    arguments: tuple[str, ...],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


def test_margins_follow_from_that_of_auc_when_not_named() -> None:
    assert parse_margins(("0.002",)) == Margins.of(0.002)
    assert parse_margins(("calibration=0.02", "auc=0.002")) == Margins.of(0.002).model_copy(
        update={"calibration": 0.02}
    )
    assert parse_margins(("group_auc=none",)).group_auc is None
    assert parse_margins(("normalized_entropy=0.5",)).auc == Margins().auc


@pytest.mark.parametrize(
    "values",
    [
        ("0",),
        ("nan",),
        ("2",),
        ("none",),
        ("x",),
        ("calibration=-1",),
        ("calibration=inf",),
        ("0.1", "auc=0.2"),
        ("=0.1", "0.1"),
    ],
)
def test_margin_is_refused_when_it_is_none(values: tuple[str, ...]) -> None:
    with pytest.raises(click.BadParameter):
        parse_margins(values)

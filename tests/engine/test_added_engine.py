"""The page on adding an engine, followed word by word: a package outside of Rankine, installed and held to all checks.

Then the same engine spoilt in one way after the other, each of which a check must find.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from engine.families import family_network
from rankine.artifact import Artifact
from rankine.compilation.conformance.checks import CHECKS
from rankine.compilation.conformance.process import BUILD, Job, _in_a_process, run_job
from rankine.compilation.conformance.result import CheckOutcome, ConformanceResult
from rankine.compilation.conformance.zoo import INT8, zoo_artifact

pytestmark = pytest.mark.engine

PAGE = ROOT / "docs" / "how-to" / "add-an-engine.md"
FENCE = re.compile(r"^```(?P<kind>\w*)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
SOURCE = "my_engine/my_engine.py"


def _write(folder: Path) -> list[str]:
    """Write the page's files, and return its commands."""
    blocks = list(FENCE.finditer(PAGE.read_text(encoding="utf-8")))
    for block in blocks:
        if block["title"]:
            path = folder / block["title"]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block["text"])
    lines = [line for block in blocks if block["kind"] == "console" for line in block["text"].splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def _run(command: list[str], folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *(entry for entry in sys.path if entry)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The page's folder, where its package was installed, and what is left of its commands."""
    folder = tmp_path_factory.mktemp("page")
    install, *others = _write(folder)
    assert install == "pip install ./my_engine"
    # As the page says, but beside this environment, and with what is here instead of the index.
    site = folder / "site"
    apart = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    done = _run([sys.executable, "-m", *install.split(), *apart], folder, site)
    assert done.returncode == 0, done.stderr
    return folder, site, others


def _conformance(commands: tuple[Path, Path, list[str]], *options: str) -> tuple[int, dict[str, CheckOutcome], str]:
    """Exit status, outcomes of both numeric forms by form and check, and what was told on the way."""
    folder, site, (command,) = commands
    arguments = command.split()
    assert arguments[0] == "rankine"
    done = _run([sys.executable, "-m", *arguments, *options, "--json"], folder, site)
    result = ConformanceResult.model_validate(json.loads(done.stdout))
    found = {f"{case.numeric} {outcome.check}": outcome for case in result.cases for outcome in case.checks}
    return done.returncode, found, done.stderr


def test_engine_of_the_page_passes_when_the_page_is_followed(commands: tuple[Path, Path, list[str]]) -> None:
    status, found, told = _conformance(commands)
    failed = {name: outcome.reason for name, outcome in found.items() if not outcome.passed}
    assert failed == {}
    assert status == 0
    assert found.keys() == {f"{numeric} {check}" for numeric in ("fp32", "int8") for check in ("build", *CHECKS)}
    assert "my_engine on cpu, dcn_v2 INT8" in told


_COPY = "        np.copyto(out, logits)\n"
SPOILT = {
    "a wrong logit": (_COPY, f"{_COPY}        out[-1] += 0.5\n", "numbers-7", "differ from the reference by"),
    "rows that depend on others": (
        _COPY,
        "        np.copyto(out, logits + 1e-3 * (rows > 1) * np.abs(logits).mean())\n",
        "independent-rows",
        "",
    ),
    "an exception of its own": (_COPY, "        raise KeyError('lost')\n", "numbers-1", "KeyError: 'lost'"),
    "a crash": (
        _COPY,
        f"{_COPY}        if rows == 512:\n            __import__('os').abort()\n",
        "numbers-512",
        "signal 6",
    ),
    "a hang": (
        _COPY,
        f"{_COPY}        if rows == 512:\n            __import__('time').sleep(600)\n",
        "numbers-512",
        "took",
    ),
    "a build that fails": ("        _session(folder, threads=1)", "        raise EngineError('no')\n", "build", "no"),
    "a descriptor left open": (
        "        session = _session",
        "        LEFT.append(open(folder / 'graph.onnx', 'rb'))\n        session = _session",
        "leaks",
        "descriptors are left behind",
    ),
    "a descriptor left open by two threads": (
        "        session = _session",
        "        LEFT.extend(__import__('os').dup(1) for _ in range(1, threads))\n        session = _session",
        "leaks",
        "descriptors are left behind",
    ),
    "memory left behind": (
        "        session = _session",
        "        LEFT.append(np.ones(1 << 17))\n        session = _session",
        "leaks",
        "memory is left behind",
    ),
}


@pytest.fixture
def spoil(commands: tuple[Path, Path, list[str]]) -> Iterator[Callable[[str], tuple[str, str]]]:
    """Put a spoilt engine in the place of the good one; gives the check that must find it, and the reason."""
    folder, site, _ = commands
    good = (folder / SOURCE).read_text()

    def put(name: str) -> tuple[str, str]:
        old, new, check, reason = SPOILT[name]
        assert good.count(old) == 1
        (site / "my_engine.py").write_text(good.replace(old, new) + "\n\nLEFT = []\n")
        return check, reason

    yield put
    (site / "my_engine.py").write_text(good)


def test_command_ends_with_one_when_an_engine_is_spoilt(
    commands: tuple[Path, Path, list[str]], spoil: Callable[[str], tuple[str, str]]
) -> None:
    check, reason = spoil("a wrong logit")
    status, found, told = _conformance(commands, "--check", check, "--check", "no-rows")
    assert status == 1
    for numeric in ("fp32", "int8"):
        outcome = found[f"{numeric} {check}"]
        assert not outcome.passed
        assert reason in (outcome.reason or "")
        assert (outcome.reason or "") in told


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return zoo_artifact("dcn_v2", family_network("dcn_v2"), tmp_path_factory.mktemp("dcn_v2"))


@pytest.mark.parametrize("name", [name for name in SPOILT if name != "a wrong logit"])
def test_check_finds_it_and_the_rest_goes_on_when_an_engine_is_spoilt(
    commands: tuple[Path, Path, list[str]],
    spoil: Callable[[str], tuple[str, str]],
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    check, reason = spoil(name)
    monkeypatch.syspath_prepend(str(commands[1]))
    checks = tuple(one for one in (check, "bad-indices") if one in CHECKS)
    job = Job("my_engine", "cpu", artifact.path, INT8, checks)
    first, *others = [one for one in run_job(job, timeout_s=10) if one.check != BUILD or not one.passed]
    assert (first.check, first.passed) == (check, False)
    assert reason in (first.reason or "")
    told = {one.check: one.passed for one in others}
    assert told.keys() == (set() if check == BUILD else {"bad-indices"})


def test_nothing_is_left_in_the_temporary_folder_when_a_check_crashed(
    commands: tuple[Path, Path, list[str]],
    spoil: Callable[[str], tuple[str, str]],
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    spoil("a crash")
    monkeypatch.syspath_prepend(str(commands[1]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    outcomes = list(run_job(Job("my_engine", "cpu", artifact.path, INT8, ("numbers-512",)), timeout_s=30))
    assert [(one.check, one.passed) for one in outcomes] == [(BUILD, True), ("numbers-512", False)]
    assert list(tmp_path.glob("rankine-*")) == []


def test_build_that_comes_again_after_a_crash_is_told_when_it_hangs(
    commands: tuple[Path, Path, list[str]],
    spoil: Callable[[str], tuple[str, str]],
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """It has a time of its own: what the next check may take is not spent on it."""
    spoil("a build that fails")
    module = commands[1] / "my_engine.py"
    module.write_text(module.read_text().replace("raise EngineError('no')", "__import__('time').sleep(600)"))
    monkeypatch.syspath_prepend(str(commands[1]))
    job = Job("my_engine", "cpu", artifact.path, INT8, ("bad-indices",))
    [outcome] = _in_a_process(job, job.checks, tmp_path, timeout_s=3)
    assert (outcome.check, outcome.passed) == (BUILD, False)

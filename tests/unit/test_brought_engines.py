"""Engines of other packages, found by their entry points: packages as they lie in a folder once they are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rankine.compilation.doctor import diagnose
from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import engine_names, installed, load_engine
from rankine.errors import EngineMissing

GOOD = """
from rankine.compilation.engine import Capabilities


class Toy:
    def capabilities(self):
        return Capabilities(name="toy", version="1.2")


def engine():
    return Toy()
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, *, name: str = "toy") -> None:
    """A package ``toy-engines`` with the module ``toy_engine``, in a folder that Python looks in."""
    (folder / "toy_engine.py").write_text(source)
    info = folder / "toy_engines-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-engines\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rankine.engines]\n{name} = toy_engine:engine\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "toy_engine", raising=False)


def test_engine_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, GOOD)
    assert engine_names()[-1] == "toy"
    assert load_engine("toy").capabilities().version == "1.2"
    found = dict(installed())["toy"]
    assert isinstance(found, Capabilities)
    assert any(one.subject == "engine toy" and one.ok for one in diagnose())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "no_such_library"),
        ("raise RuntimeError('no device')", "no device"),
        ("", "engine"),
        ("def engine():\n    raise ValueError", "ValueError"),
        (GOOD.replace("return Cap", "raise RuntimeError('driver mismatch')\n        return Cap"), "driver mismatch"),
        (GOOD.replace("return Cap", "Cap"), "NoneType"),
    ],
)
def test_engine_of_another_package_is_listed_when_it_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    install(tmp_path, monkeypatch, source)
    with pytest.raises(EngineMissing, match="'toy' is not available") as caught:
        load_engine("toy")
    assert reason in str(caught.value.got)
    assert "toy-engines" in str(caught.value.hint)
    assert isinstance(dict(installed())["toy"], EngineMissing)
    assert isinstance(dict(installed())["native"], Capabilities)
    assert any(one.subject == "engine toy" and not one.ok for one in diagnose())


def test_engine_of_our_own_stays_when_another_package_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, GOOD, name="native")
    assert load_engine("native").capabilities().own
    assert engine_names().count("native") == 1
    taken = [one for name, one in installed() if name == "native" and isinstance(one, EngineMissing)]
    assert [one.got for one in taken] == ["native of toy-engines"]


def test_engine_is_suggested_when_its_name_is_misspelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, GOOD)
    with pytest.raises(EngineMissing, match="unknown engine") as caught:
        load_engine("toyy")
    assert "toy" in str(caught.value.hint)

"""What `rankine doctor` finds."""

from __future__ import annotations

import sys

import pytest

from rankine.compilation import engines
from rankine.compilation.doctor import diagnose
from rankine.compilation.engine import Capabilities
from rankine.errors import EngineMissing


def test_diagnose_lists_every_engine_when_asked() -> None:
    findings = {finding.subject: finding for finding in diagnose()}
    assert {f"engine {name}" for name in engines.engine_names()} <= set(findings)
    assert findings["native module"].ok
    assert findings["engine onnxruntime"].ok


def test_diagnose_gives_reason_and_pip_line_when_an_engine_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what Python itself does for a package that must not load
    monkeypatch.delitem(sys.modules, "rankine.compilation.engines.openvino", raising=False)
    finding = next(found for found in diagnose() if found.subject == "engine openvino")
    assert not finding.ok
    assert "openvino" in finding.detail
    assert finding.hint == "pip install 'rankine[openvino]'"
    with pytest.raises(EngineMissing) as caught:
        engines.load_engine("openvino")
    assert caught.value.exit_status == 5


def test_load_engine_suggests_a_name_when_it_is_unknown() -> None:
    with pytest.raises(EngineMissing, match="Did you mean 'onnxruntime'"):
        engines.load_engine("onnxruntme")


def test_installed_gives_capabilities_when_an_engine_loads() -> None:
    found = dict(engines.installed())
    record = found["onnxruntime"]
    assert isinstance(record, Capabilities)
    assert record.numerics == ("fp32", "int8")
    assert not record.oracle

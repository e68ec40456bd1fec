"""What `rankine doctor` finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rankine import __version__
from rankine.compilation import doctor, engines
from rankine.compilation.doctor import Finding, diagnose
from rankine.compilation.engine import Capabilities
from rankine.environment import instruction_set
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


def _found(monkeypatch: pytest.MonkeyPatch, engine: Capabilities | EngineMissing) -> dict[str, Finding]:
    monkeypatch.setattr(doctor, "installed", lambda: [("mine", engine)])
    return {finding.subject: finding for finding in diagnose()}


def test_diagnose_tells_devices_and_what_stands_in_for_a_chip_when_an_engine_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = Capabilities(
        name="mine",
        version="1.2",
        devices=("cpu", "htp"),
        stand_ins={"htp": "emulator"},
        compiles_for=("v5e",),
        options={"gib": "memory; 1"},
    )
    found = _found(monkeypatch, record)
    told = "1.2 on cpu, htp (the vendor's emulator): fp32, int8; compiles for v5e; option gib: memory; 1"
    assert found["engine mine"].detail == told
    assert found["accelerators"].ok
    assert "none found" in found["accelerators"].detail
    assert "in a chip's place: mine: htp (the vendor's emulator)" in found["accelerators"].detail


def test_diagnose_counts_no_interpreter_as_a_device_when_kernels_can_be_checked_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_ins = {"interpreter": "interpreter"}
    record = Capabilities.model_validate(
        {"name": "mine", "version": "1", "devices": ("interpreter",), "stand_ins": stand_ins}
    )
    found = _found(monkeypatch, record)
    assert found["engine mine"].detail == "1 on interpreter, for checks only: fp32, int8"
    assert found["accelerators"].detail.endswith("in a chip's place: mine: interpreter, for checks only")
    assert "opened by" not in found["accelerators"].detail


def test_diagnose_lists_gpus_and_says_what_opens_them_when_the_driver_tells_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA X1, 8192 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor, "_ACCELERATOR_NODES", str(tmp_path / "none"))
    finding = _found(monkeypatch, Capabilities(name="mine", version="1"))["accelerators"]
    assert not finding.ok
    assert finding.detail == "NVIDIA X1, 8192 MiB; opened by no engine"
    assert "pip install" in (finding.hint or "")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "nvidia-smi fails" in _found(monkeypatch, Capabilities(name="mine", version="1"))["accelerators"].detail


def test_diagnose_tells_what_an_extra_lacks_when_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=1",
        "numpy>=2; extra == 'data'",
        'no-such-package>=3; extra == "train"',
        'rankine[data]; extra == "train"',
        'none-either; extra == "dev"',
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: lines)
    found = {finding.subject: finding for finding in diagnose() if finding.subject.startswith("extra")}
    assert found.keys() == {"extra data", "extra train"}
    assert found["extra data"].ok
    assert found["extra train"].detail == "lacks no-such-package"
    assert found["extra train"].hint == "pip install 'rankine[train]'"


def test_diagnose_names_processor_features_and_versions_when_asked() -> None:
    found = {finding.subject: finding for finding in diagnose()}
    assert __version__ in found["rankine"].detail
    assert instruction_set() in found["CPU features"].detail
    assert "extra train" in found

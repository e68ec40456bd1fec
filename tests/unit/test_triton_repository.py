"""What ``rankine export triton-server`` writes, without a Triton server."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from rankine.artifact import Draft
from rankine.errors import ArtifactError, EngineError, UsageError
from rankine.serving import ServeConfig
from rankine.serving.triton.batching import batch_sizes
from rankine.serving.triton.repository import write_repository
from rankine.serving.triton.settings import TritonSettings
from rankine.serving.triton.tensors import drop_renamed_capsules, refuse_strings


def test_batches_end_where_more_rows_give_little_when_there_is_a_profile() -> None:
    flat_after_64 = batch_sizes({1: 1.0, 64: 2.0, 512: 16.0})
    steep = batch_sizes({1: 4.0, 64: 4.1, 512: 5.0})
    assert flat_after_64.max_rows == 512
    assert 512 < steep.max_rows <= 2048
    assert batch_sizes({}).max_rows == 2048


def test_batches_may_take_as_long_as_the_largest_measured_one_when_that_is_long() -> None:
    slow = batch_sizes({1: 5.0, 512: 90.0})
    assert slow.max_ms >= 20
    assert slow.profile == {1: 5.0, 512: 90.0}


def test_parameters_give_the_settings_back_when_they_are_texts() -> None:
    settings = TritonSettings(artifact="a", digest="d", variant="v", engine="e", allow_uncertified=True, threads=3)
    assert TritonSettings.model_validate(dict(settings.parameters())) == settings


class Backend:
    """Triton's module, as far as strings are concerned: what it gives back of two numbers."""

    def __init__(self, back: list[float]) -> None:
        self.Tensor, self._back = self, back

    def from_dlpack(self, name: str, values: object) -> Backend:
        return self

    def as_numpy(self) -> Backend:
        return self

    def tolist(self) -> list[float]:
        return self._back


def test_strings_are_refused_when_the_backend_garbles_arrays() -> None:
    refuse_strings(Backend([1.0, 2.0]))
    with pytest.raises(EngineError, match="numpy<2"):
        refuse_strings(Backend([1.0, 1.0]))


class Falls:
    """What fails where nobody can be told."""

    def __del__(self) -> None:
        raise RuntimeError("an engine was not freed")


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 gives arrays to Triton, no capsules")
def test_only_complaints_of_renamed_capsules_are_dropped_when_nobody_can_be_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    seen: list[str] = []

    def watched(unraisable: sys.UnraisableHookArgs) -> None:
        seen.append(str(unraisable.exc_value))
        drop_renamed_capsules(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", watched)
    taken = b"used_dlpack"  # as the backend calls it
    capsule = np.zeros(3, np.float32).__dlpack__()
    rename(capsule, taken)
    del capsule
    assert len(seen) == 1
    assert capfd.readouterr().err == ""
    Falls()
    assert len(seen) == 2
    assert "RuntimeError: an engine was not freed" in capfd.readouterr().err


def refusal(config: ServeConfig, folder: Path) -> str:
    with pytest.raises((ArtifactError, UsageError)) as refused:
        write_repository(config, folder, batch_sizes({}))
    return str(refused.value)


def test_folder_is_refused_when_nothing_may_or_can_be_written_there(tmp_path: Path) -> None:
    draft = Draft("train", name="small")
    draft.put_bytes("schema.yaml", b"")
    artifact = draft.commit(tmp_path / "small")
    config = ServeConfig(artifact=artifact.path)
    other = ServeConfig(artifact=artifact.path, catalog=tmp_path / "items")
    assert "lies in the artifact," in refusal(config, artifact.path / "inner" / "deep")
    assert "lies in the artifact's evidence" in refusal(config, artifact.evidence() / "inner")
    assert "lies in the catalog" in refusal(config, tmp_path / "small.catalog" / "inner")
    assert "lies in the catalog" in refusal(other, tmp_path / "items" / "inner")
    (tmp_path / "link").symlink_to(artifact.path)
    assert "lies in the artifact," in refusal(config, tmp_path / "link" / "inner")
    (tmp_path / "file").write_text("")
    assert "Give another DIR, or remove it first" in refusal(config, tmp_path / "file")
    assert "cannot be made" in refusal(config, tmp_path / "file" / "inner")
    assert "cannot be made" in refusal(config, Path("/proc/nope/x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "small"]

"""The baseline's time, kept beside a table of latencies."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankine.artifact import Artifact, Draft
from rankine.errors import ArtifactError
from rankine.planning.baseline_timing import BaselineTiming, remembered_baseline_ms
from rankine.planning.latency_table import write_table
from unit.small_networks import batch_of


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    draft = Draft("train", name="small")
    draft.put_bytes("record.json", b"{}")
    return draft.commit(tmp_path / "small")


def kept_at(artifact: Artifact, table: Path) -> Path:
    return table.with_name(f"table.baseline-{artifact.digest[:16]}.json")


def test_baseline_is_not_timed_again_when_its_time_is_kept(artifact: Artifact, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    write_table(BaselineTiming(baseline=artifact.digest, p50_ms_512=3.5), kept_at(artifact, table))
    assert remembered_baseline_ms(artifact, batch_of(4), table) == 3.5
    assert [path.name for path in tmp_path.glob("*.new")] == []


def test_unreadable_time_names_its_file_and_what_to_do_when_found(artifact: Artifact, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    kept_at(artifact, table).write_text('{"baseline": "x", "p50')
    with pytest.raises(ArtifactError, match=r"table\.baseline-.*Remove the file, and the baseline is timed again"):
        remembered_baseline_ms(artifact, batch_of(4), table)

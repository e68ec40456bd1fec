"""The ledger of test splits: every use is counted, here and along the lineage, and nothing stops a certificate."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rankine.artifact import Artifact, Draft
from rankine.certification.ledger import (
    USES_FILE,
    SplitUse,
    SplitUses,
    read_uses,
    record_use,
    split_key,
    state_folder,
)
from rankine.events import Event, Note

SPLIT = split_key({"sha256": "0"}, "random")
USE = SplitUse(
    created=datetime(2026, 1, 2, tzinfo=UTC), artifact="a" * 64, variants=("small-int8",), margins=({"auc": 0.001},)
)
APPEND = """
import sys
from rankine.certification.ledger import SplitUse, record_use
use = SplitUse.model_validate_json(sys.argv[2])
print(*(record_use(sys.argv[1], use).count for _ in range(25)))
"""


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the uses of ``SPLIT`` are written to, empty."""
    monkeypatch.setenv("RANKINE_STATE", str(tmp_path))
    return tmp_path / "test-splits" / f"{SPLIT}.jsonl"


def artifact_with(uses: SplitUses | None, path: Path) -> Artifact:
    draft = Draft("certify", name="small")
    draft.put_bytes("content", b"")
    if uses is not None:
        draft.put_json(USES_FILE, uses)
    return draft.commit(path)


def test_every_use_adds_a_line_and_one_to_the_count_when_recorded(ledger: Path) -> None:
    assert [record_use(SPLIT, USE).count for _ in range(3)] == [1, 2, 3]
    lines = ledger.read_text().splitlines()
    assert [SplitUse.model_validate_json(line) for line in lines] == [USE] * 3


def test_one_set_of_margins_stands_for_all_tests_when_a_record_is_older() -> None:
    values = USE.model_dump(mode="json") | {"variants": ["a", "b"], "margins": {"auc": 0.001}}
    assert SplitUse.model_validate(values).margins == ({"auc": 0.001},) * 2
    with pytest.raises(ValueError, match="2 variants, and margins of 1 tests"):
        SplitUse.model_validate(values | {"margins": [{"auc": 0.001}]})


def test_other_splits_are_counted_apart_when_data_or_policy_differ(ledger: Path) -> None:
    record_use(SPLIT, USE)
    others = {split_key({"sha256": "1"}, "random"), split_key({"sha256": "0"}, "time")} - {SPLIT}
    assert [record_use(other, USE).count for other in others] == [1, 1]


def test_key_is_the_same_when_provenance_comes_in_another_order() -> None:
    assert split_key({"a": "1", "b": "2"}, "time") == split_key({"b": "2", "a": "1"}, "time")


def test_lineage_decides_when_it_knows_of_more_uses_than_this_machine(ledger: Path) -> None:
    lineage = SplitUses(split=SPLIT, count=7, uses=(USE,))
    found = record_use(SPLIT, USE, lineage)
    assert found.count == 8
    assert len(found.uses) == 2


def test_this_machine_decides_when_it_knows_of_more_uses_than_the_lineage(ledger: Path) -> None:
    for _ in range(4):
        record_use(SPLIT, USE)
    assert record_use(SPLIT, USE, SplitUses(split=SPLIT, count=1, uses=(USE,))).count == 5


def test_lineage_still_counts_and_a_note_tells_when_the_ledger_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("RANKINE_STATE", str(blocked))
    events: list[Event] = []
    found = record_use(SPLIT, USE, SplitUses(split=SPLIT, count=2, uses=()), events.append)
    assert found.count == 3
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "cannot be written" in notes[0]
    assert "RANKINE_STATE" in notes[0]
    assert "used 3 times" in notes[1]


def test_nothing_is_told_when_the_split_is_used_for_the_first_time(ledger: Path) -> None:
    events: list[Event] = []
    record_use(SPLIT, USE, emit=events.append)
    assert events == []


def test_no_line_is_lost_when_processes_append_at_the_same_time(ledger: Path) -> None:
    command = [sys.executable, "-c", APPEND, SPLIT, USE.model_dump_json()]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = [int(count) for process in running for count in process.communicate()[0].split()]
    lines = [line for line in ledger.read_text().splitlines() if line]  # one that sees half of another's line ends it
    assert len(lines) == len(counts) == 75
    assert all(SplitUse.model_validate_json(line) == USE for line in lines)
    assert max(counts) == 75


@pytest.mark.parametrize("left", [b"\x00\xffgarbage", b'{"created": "2026-', b"\n\n x"])
def test_use_is_counted_beside_what_is_left_when_the_ledger_is_corrupt(ledger: Path, left: bytes) -> None:
    ledger.parent.mkdir()
    ledger.write_bytes(left)
    assert record_use(SPLIT, USE).count == 2, "something was written there once"
    assert record_use(SPLIT, USE).count == 3
    assert [SplitUse.model_validate_json(line) for line in ledger.read_bytes().splitlines()[-2:]] == [USE, USE]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_note_tells_and_nothing_waits_when_something_else_lies_in_the_ledgers_place(ledger: Path, kind: str) -> None:
    ledger.parent.mkdir()
    match kind:
        case "folder":
            ledger.mkdir()
        case "pipe":
            os.mkfifo(ledger)
        case _:
            ledger.symlink_to("/dev/null")
    events: list[Event] = []
    assert record_use(SPLIT, USE, emit=events.append).count == 1
    assert "cannot be written" in "".join(event.text for event in events if isinstance(event, Note))


def test_earlier_uses_count_when_the_ledger_can_no_longer_be_written(ledger: Path) -> None:
    for _ in range(3):
        record_use(SPLIT, USE)
    size = ledger.stat().st_size
    # A limit on the size of files is what a full disk is to the process that writes: a line cut short, or none.
    for room in (0, 5):
        command = (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size + room}, {size + room}))\n{APPEND}"
        )
        done = subprocess.run(
            [sys.executable, "-c", command, SPLIT, USE.model_dump_json()], capture_output=True, text=True, check=True
        )
        assert min(map(int, done.stdout.split())) >= 4
    assert record_use(SPLIT, USE).count >= 4
    assert SplitUse.model_validate_json(ledger.read_bytes().splitlines()[-1]) == USE


def test_state_lies_where_the_environment_says_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("RANKINE_STATE")
    assert state_folder() == Path("/home/somebody/.local/state/rankine")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_folder() == Path("/state/rankine")
    monkeypatch.setenv("RANKINE_STATE", "/mine")
    assert state_folder() == Path("/mine")


def test_uses_are_read_from_the_artifact_when_they_are_of_the_same_split(tmp_path: Path) -> None:
    uses = SplitUses(split=SPLIT, count=2, uses=(USE,))
    artifact = artifact_with(uses, tmp_path / "with")
    assert read_uses(artifact) == uses
    assert read_uses(artifact, SPLIT) == uses
    assert read_uses(artifact, "another") is None
    assert read_uses(artifact_with(None, tmp_path / "without")) is None

"""How often a test split was used: every look at it makes a pass by luck more likely.

The 5 % of a certificate are those of one look. Two counts are kept, since neither sees everything: a file of this user
on this machine, one line a use, whatever artifact it was for; and a record in the artifact, which its children carry to
other machines. What is told is the larger of the two.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, Field, model_validator

from rankine.artifact import Artifact
from rankine.config import Frozen
from rankine.events import Emit, Note, ignore

__all__ = ["USES_FILE", "SplitUse", "SplitUses", "read_uses", "record_use", "split_key", "state_folder"]

USES_FILE = "certification/uses.json"
"""Name in an artifact of the record of uses in its lineage."""


class SplitUse(Frozen):
    """One look at a test split: when, for which artifact (its digest), and what was tested, in the order of the tests.

    A test is of one of ``variants``, at those of ``margins`` in its place: a variant that is tested at several margins
    comes several times. Margins are by metric; None where a metric is reported and not judged.
    """

    created: AwareDatetime
    artifact: str
    variants: tuple[str, ...]
    margins: tuple[dict[str, float | None], ...]

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_version(cls, values: Any) -> Any:
        """One set of margins stood for all tests."""
        if isinstance(values, dict) and isinstance(values.get("margins"), dict):
            return values | {"margins": [values["margins"]] * len(values.get("variants", ()))}
        return values

    @model_validator(mode="after")
    def _one_set_of_margins_a_test(self) -> Self:
        if len(self.margins) != len(self.variants):
            raise ValueError(f"{len(self.variants)} variants, and margins of {len(self.margins)} tests")
        return self


class SplitUses(Frozen):
    """How often the test split with the hash ``split`` had been used when this was written, as far as was known.

    ``uses`` are those of the artifact's own lineage, oldest first: there can be fewer than ``count``.
    """

    schema_version: int = 1
    split: str
    count: int = Field(ge=1)
    uses: tuple[SplitUse, ...]


def split_key(provenance: Mapping[str, str], policy: str) -> str:
    """What identifies a test split: hash of where the data came from and of how it is split.

    Args:
        provenance: of the data set.
        policy: the split's policy, as text.
    """
    decisive = json.dumps([dict(provenance), policy], sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()[:32]


def state_folder() -> Path:
    """Where this user's ledger lies: ``$RANKINE_STATE``, else ``$XDG_STATE_HOME/rankine``, else the XDG default.

    Raises:
        RuntimeError: none of them is set, and the user has no home folder.
    """
    if chosen := os.environ.get("RANKINE_STATE"):
        return Path(chosen)
    if shared := os.environ.get("XDG_STATE_HOME"):
        return Path(shared) / "rankine"
    return Path.home() / ".local" / "state" / "rankine"


def read_uses(artifact: Artifact, split: str | None = None) -> SplitUses | None:
    """The record that an artifact carries; None where it has none, or is of another split than ``split``."""
    if USES_FILE not in artifact:
        return None
    found = artifact.read_json(USES_FILE, SplitUses)
    return found if split in (None, found.split) else None


def record_use(split: str, use: SplitUse, lineage: SplitUses | None = None, emit: Emit = ignore) -> SplitUses:
    """Count one more use of a test split, in this user's ledger and beyond what the lineage knows.

    A ledger that cannot be written never stops a certificate: a note says so, and only the lineage counts.

    Returns:
        The record for the new artifact; its ``count`` has this use in it.
    """
    known = (lineage.count if lineage else 0) + 1
    try:
        path = state_folder() / "test-splits" / f"{split}.jsonl"
        # Read first: a ledger that can be read and not written still knows of earlier uses.
        known = max(known, _lines(path) + 1)
        known = max(known, _append(path, use))
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        told = f"the ledger of test splits cannot be written ({reason}): uses of other artifacts are not counted"
        emit(Note("test split", f"{told}. Set RANKINE_STATE to a folder that can be."))
    if known > 1:
        emit(Note("test split", f"this test split has now been used {known} times"))
    return SplitUses(split=split, count=known, uses=(*(lineage.uses if lineage else ()), use))


def _append(path: Path, use: SplitUse) -> int:
    """Add one line to a ledger; returns the number of its lines, this one included.

    One write to a file opened for appending: two processes that certify at the same time both add theirs. Each then
    counts what is there, so that neither counts too few.

    Raises:
        OSError: the ledger is no file, or the line could not be written as a whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = use.model_dump_json().encode() + b"\n"
    # Not blocking, or a pipe in its place would wait for a reader.
    ledger = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
    try:
        found = os.fstat(ledger)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        # A line that a crash or a full disk cut off must not swallow this one.
        if found.st_size and os.pread(ledger, 1, found.st_size - 1) != b"\n":
            line = b"\n" + line
        if os.write(ledger, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(ledger)
    return _lines(path)


def _lines(path: Path) -> int:
    """Lines of a ledger, 0 where there is none. What cannot be read as a use was one once: it counts."""
    return sum(1 for line in path.read_bytes().split(b"\n") if line.strip()) if path.is_file() else 0

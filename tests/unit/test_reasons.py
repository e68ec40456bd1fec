"""The reasons of decisions, as the documentation lists them."""

from __future__ import annotations

import re
from pathlib import Path

from rankine.policy.reason import Reason

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


def test_every_reason_is_told_once_when_the_reference_lists_them() -> None:
    section = REFERENCE.read_text().split("### Reasons\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(Reason)

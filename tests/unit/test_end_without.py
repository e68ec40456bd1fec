"""What a test lacks is never silent in CI."""

from __future__ import annotations

import pytest

from conftest import end_without
from engine.installed import installed_engine

FAILED, SKIPPED = pytest.fail.Exception, pytest.skip.Exception


@pytest.mark.parametrize(
    ("ci", "end"), [("true", FAILED), ("True", FAILED), ("1", FAILED), ("", SKIPPED), ("false", SKIPPED)]
)
def test_test_fails_only_in_ci_when_its_needs_are_missing(
    monkeypatch: pytest.MonkeyPatch, ci: str, end: type[Exception]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(end, match="no curl"):
        end_without("no curl")
    with pytest.raises(end, match="unknown engine"):
        installed_engine("none-such")

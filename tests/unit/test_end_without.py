"""What a test lacks is never silent in CI."""

from __future__ import annotations

import pytest

from conftest import end_without
from engine.installed import installed_engine


@pytest.mark.parametrize("ci", ["true", "1", "True"])
def test_test_fails_when_its_needs_are_missing_in_ci(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match="no curl"):
        end_without("no curl")
    with pytest.raises(pytest.fail.Exception, match="unknown engine"):
        installed_engine("none-such")


@pytest.mark.parametrize("ci", ["", "false"])
def test_test_is_skipped_when_its_needs_are_missing_elsewhere(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="no curl"):
        end_without("no curl")
    with pytest.raises(pytest.skip.Exception, match="unknown engine"):
        installed_engine("none-such")

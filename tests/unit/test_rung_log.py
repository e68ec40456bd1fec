"""The ladder in the server's log: its rungs at the start, a warning where there is no step, and every step."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from rankine.models.columns import Batch, Columns
from rankine.serving.logs import LOGGER
from rankine.serving.rung_log import RungLog, tell_ladder
from rankine.serving.rungs import ServedRung


class Silent:
    """A runner that is never run."""

    def run(self, batch: Batch, out: np.ndarray) -> None:
        raise NotImplementedError

    def complete(self, items: Columns) -> Columns:
        return items

    def close(self) -> None:
        """It holds nothing."""


RUNGS = tuple(
    ServedRung(variant, "numpy", Silent(), margin)
    for variant, margin in (("fine", 0.0005), ("lean", 0.001), ("thin", 0.002))
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    for name in ("rankine", LOGGER.name):  # a server that ran in this process keeps its own handler
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    caplog.set_level(logging.INFO, logger=LOGGER.name)
    return caplog


def _told(lines: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    return [(record.getMessage(), getattr(record, "fields", {})) for record in lines.records]


def test_ladder_is_told_with_what_is_left_out_when_the_server_starts(lines: pytest.LogCaptureFixture) -> None:
    tell_ladder(RUNGS, (0, 2), 0.002)
    [(message, fields)] = _told(lines)
    assert (message, fields["floor"]) == ("ladder", 0.002)
    shown = fields["rungs"]
    assert isinstance(shown, list)
    assert [(rung["variant"], rung["margin"], "left_out" in rung) for rung in shown] == [
        ("fine", 0.0005, False),
        ("lean", 0.001, True),
        ("thin", 0.002, False),
    ]


def test_ladder_warns_when_there_is_no_step_to_go(lines: pytest.LogCaptureFixture) -> None:
    tell_ladder(RUNGS, (0,), 0.002)
    assert [record.levelname for record in lines.records] == ["INFO", "WARNING"]
    assert "no step to go" in lines.records[-1].getMessage()


def test_steps_are_told_once_a_second_at_most_when_the_ladder_moves(lines: pytest.LogCaptureFixture) -> None:
    seen = [(0.0, 0), (10.0, 2), (10.3, 1), (10.6, 2), (10.9, 1), (11.2, 1), (12.0, 1), (20.0, 0)]
    numbers = iter([at for _, at in seen])
    log = RungLog(RUNGS, lambda: next(numbers))
    for now_s, _ in seen:
        log.look(now_s)
    assert _told(lines) == [
        ("stepped down", {"from": "fine", "to": "thin", "margin": 0.002, "steps": 1}),
        ("stepped up", {"from": "thin", "to": "lean", "margin": 0.001, "steps": 3}),
        ("stepped up", {"from": "lean", "to": "fine", "margin": 0.0005, "steps": 1}),
    ]

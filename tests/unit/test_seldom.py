"""Warnings whose cause may come very often."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from rankine.serving.logs import LOGGER
from rankine.serving.seldom import Seldom


class _Kept(logging.Handler):
    """Keeps the fields of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.fields.append(vars(record)["fields"])


@pytest.fixture
def kept() -> Iterator[_Kept]:
    handler = _Kept()
    LOGGER.addHandler(handler)
    yield handler
    LOGGER.removeHandler(handler)


def test_one_line_is_written_when_its_cause_comes_often(kept: _Kept) -> None:
    seldom = Seldom("it is so", every_s=3600.0)
    for number in range(5):
        seldom.warn({"number": number})
    assert kept.fields == [{"number": 0}]


def test_line_counts_those_left_out_when_it_is_written_again(kept: _Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("rankine.serving.seldom.perf_counter", lambda: now_s)
    seldom = Seldom("it is so", every_s=1.0)
    for now_s in (1000.0, 1000.5, 1000.9, 1001.0, 1002.5):
        seldom.warn({"at": now_s})
    assert kept.fields == [{"at": 1000.0}, {"at": 1001.0, "more": 2}, {"at": 1002.5}]

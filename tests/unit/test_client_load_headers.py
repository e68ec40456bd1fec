"""The load report in the headers of replies."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from rankine.serving.load_report import LoadReport


@dataclass(frozen=True)
class Fixed:
    queued_rows: int
    predicted_wait_s: float


def test_load_headers_tell_wait_in_milliseconds_when_rows_wait() -> None:
    assert LoadReport().headers(Fixed(512, 0.0042), {}, 0.0) == (
        (b"x-rankine-predicted-wait-ms", b"4.200"),
        (b"x-rankine-queued-rows", b"512"),
    )


def test_load_headers_have_orca_s_form_when_it_is_asked_for() -> None:
    headers = dict(LoadReport().headers(Fixed(7, 0.001), {b"endpoint-load-metrics-format": b"JSON"}, 0.0))
    form, _, report = headers[b"endpoint-load-metrics"].partition(b" ")
    assert form == b"JSON"
    assert json.loads(report)["named_metrics"] == {"predicted_wait_ms": pytest.approx(1.0), "queued_rows": 7}

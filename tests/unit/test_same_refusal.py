"""One refusal for many requests."""

from __future__ import annotations

import json

import pytest

from rankine.errors import CapacityExceeded, RankineError
from rankine.policy.reason import Reason
from rankine.serving import same_refusal
from rankine.serving.http import CLOSE, Request, bytes_of, error_reply
from rankine.serving.refusals import OverQuota, QueueRefused
from rankine.serving.same_refusal import SameRefusal


class Writer:
    """Writes refusals as the server does; counts them."""

    def __init__(self, *, closes: bool = False) -> None:
        self.written = 0
        self.closes = closes

    def __call__(self, request: Request, error: RankineError, label: str) -> tuple[bytes, bool]:
        self.written += 1
        reply = error_reply(error, request.id, plain=False)
        headers = [(b"x-request-id", request.id.encode()), (b"content-length", b"%d" % len(reply.body))]
        return bytes_of(reply, headers + [CLOSE] * self.closes), self.closes


def asked(number: str, **headers: str) -> Request:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request(number, "POST", "/v1/rank", b"", given, 0.0)


BEHIND = QueueRefused("the server is 12 ms behind", 0.012, Reason.FRONT_END)


@pytest.fixture(autouse=True)
def _slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_refusal, "_FOR_S", 3600.0)


@pytest.mark.parametrize("numbers", [("a-1", "a-2"), ("a-f", "a-10"), ("1", "0")])
def test_each_is_answered_under_its_own_id_when_the_refusal_is_the_same(numbers: tuple[str, str]) -> None:
    writer = Writer()
    same = SameRefusal(writer)
    for number in (*numbers, *numbers):
        whole, closes = same.answer(asked(number), BEHIND, "rank")
        assert (whole, closes) == Writer()(asked(number), BEHIND, "rank")
        assert json.loads(whole.partition(b"\r\n\r\n")[2])["request_id"] == number
    assert writer.written == len({len(number) for number in numbers})


@pytest.mark.parametrize(
    "headers", [{"x_request_id": 'x"y'}, {"traceparent": "00-a"}, {"endpoint_load_metrics_format": "json"}]
)
def test_refusal_is_written_anew_when_the_request_wants_one_of_its_own(headers: dict[str, str]) -> None:
    writer = Writer()
    same = SameRefusal(writer)
    for _ in range(3):
        assert same.answer(asked("mine", **headers), BEHIND, "rank") == Writer()(asked("mine"), BEHIND, "rank")
    assert writer.written == 3


def test_one_connection_is_closed_when_that_is_meant_for_one() -> None:
    writer = Writer(closes=True)
    same = SameRefusal(writer)
    assert [same.answer(asked("mine"), BEHIND, "rank")[1] for _ in range(2)] == [True, True]
    assert writer.written == 2


def test_labels_are_kept_apart_when_they_are_refused_together() -> None:
    writer = Writer()
    same = SameRefusal(writer)
    for label in ("rank", "oip"):
        same.answer(asked("mine"), BEHIND, label)
    assert writer.written == 2


def test_reasons_are_kept_apart_when_they_are_refused_together() -> None:
    same = SameRefusal(Writer())
    for error in (BEHIND, QueueRefused("another would be late", 0.02, Reason.OTHERS_LATE), BEHIND):
        assert same.answer(asked("mine"), error, "rank") == Writer()(asked("mine"), error, "rank")


@pytest.mark.parametrize(
    "error", [OverQuota("of your tenant", 1.0, Reason.QUOTA), CapacityExceeded("there are too many connections")]
)
def test_refusal_is_written_anew_when_it_is_about_whoever_asks(error: RankineError) -> None:
    writer = Writer()
    same = SameRefusal(writer)
    for _ in range(3):
        same.answer(asked("mine"), error, "rank")
    assert writer.written == 3

"""Which signals end a server, and how."""

from __future__ import annotations

import signal

from rankine.serving.stop_signals import is_in_a_hurry, stop_signals


def test_hang_up_ends_a_server_when_it_is_not_ignored() -> None:
    assert set(stop_signals()) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def test_hang_up_ends_nothing_when_it_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup(1) does
    try:
        assert set(stop_signals()) == {signal.SIGTERM, signal.SIGINT}
    finally:
        signal.signal(signal.SIGHUP, before)


def test_hang_up_is_in_no_hurry_when_others_are() -> None:
    assert [is_in_a_hurry(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == [True, True, False]

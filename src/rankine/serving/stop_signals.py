"""The signals on which a server drains and ends."""

from __future__ import annotations

import signal

__all__ = ["is_in_a_hurry", "stop_signals"]

_HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows


def stop_signals() -> tuple[int, ...]:
    """SIGTERM, SIGINT, and, of a terminal that is closed, SIGHUP; not the last where it is ignored, as by nohup(1)."""
    usual = (signal.SIGTERM, signal.SIGINT)
    if _HANG_UP is None or signal.getsignal(_HANG_UP) is signal.SIG_IGN:
        return usual
    return (*usual, _HANG_UP)


def is_in_a_hurry(number: int) -> bool:
    """Whether the signal, if it is not the first, ends a server that drains: a closed terminal may send several."""
    return number != _HANG_UP

"""What a client knows of one server: its load report, how fast it was, and whether it is to be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rankine.client.settings import ClientSettings

__all__ = ["Server", "predicted_wait_of"]

_NEW_WEIGHT = 0.2
"""Of a new latency in the moving average."""
_FIRST_GUESS_S = 0.005
"""What a request takes, before any was answered; only its being above zero matters."""


@dataclass(slots=True, eq=False)
class Server:
    """One server as this client sees it. All times are on one monotonic clock, in seconds.

    Attributes:
        url: without a final slash.
        outstanding: requests of this client that it has not answered yet.
        ejected: it is left out until a probe is answered, or a request that had no other place to go.
        probe_at_s: when an ejected server is asked for its health.
        paused_until_s: it has refused a request and said when to come back.
    """

    url: str
    settings: ClientSettings
    outstanding: int = 0
    ejected: bool = False
    probe_at_s: float = 0.0
    probing: bool = False
    paused_until_s: float = 0.0
    _wait_s: float = 0.0
    _told_at_s: float = 0.0
    _latency_s: float | None = None
    _measured_at_s: float = 0.0
    _failures: int = 0
    _ejections: int = 0
    _well_since_s: float = 0.0

    def expected_s(self, now_s: float, typical_s: float | None) -> float:
        """When a request that is sent now would be answered: the wait, what is outstanding, and itself.

        What is known fades with age: the reported wait toward none, the latency toward ``typical_s``, that of all
        servers. So a server that was slow once is tried again, while one that is silent repels by what it owes.
        """
        typical_s = _FIRST_GUESS_S if typical_s is None else typical_s
        own_s = typical_s if self._latency_s is None else self._latency_s
        service_s = typical_s + (own_s - typical_s) * self._fade(now_s - self._measured_at_s)
        return self._wait_s * self._fade(now_s - self._told_at_s) + (1 + self.outstanding) * service_s

    def told(self, headers: Mapping[str, str], now_s: float) -> None:
        """It answered something: it is alive, and its reply may hold a load report."""
        wait_s = predicted_wait_of(headers)
        if wait_s is not None:
            self._wait_s, self._told_at_s = wait_s, now_s
        self._failures = 0
        if self.ejected:
            self.ejected, self._well_since_s = False, now_s

    def took(self, latency_s: float, now_s: float) -> None:
        """It answered a request within ``latency_s``."""
        old_s = latency_s if self._latency_s is None else self._latency_s
        self._latency_s = (1 - _NEW_WEIGHT) * old_s + _NEW_WEIGHT * latency_s
        self._measured_at_s = now_s

    def took_longer(self, than_s: float, now_s: float) -> None:
        """A request was taken back after ``than_s`` without an answer."""
        if self._latency_s is None or than_s > self._latency_s:
            self.took(than_s, now_s)

    def refused(self, retry_after_s: float, now_s: float) -> None:
        """It had no room."""
        self.paused_until_s = max(self.paused_until_s, now_s + retry_after_s)

    def failed(self, now_s: float, *, gone: bool) -> None:
        """A request failed; ``gone``: nobody listens there any more, so that one failure is enough."""
        self._failures += 1
        if self.ejected:  # the request was on its way when an earlier one failed
            return
        if gone or self._failures >= self.settings.eject_after:
            if now_s - self._well_since_s > self.settings.max_eject_s:
                self._ejections = 0
            self.eject(now_s)

    def eject(self, now_s: float) -> None:
        """Leave it out, for twice as long as the last time; also what a failed probe means."""
        out_s = min(self.settings.max_eject_s, self.settings.eject_s * 2.0 ** min(self._ejections, 30))
        self._ejections += 1
        self.ejected, self.probe_at_s = True, now_s + out_s

    def _fade(self, age_s: float) -> float:
        return math.exp2(-min(64.0, max(0.0, age_s) / self.settings.half_life_s))


def predicted_wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``x-rankine-predicted-wait-ms``; None where there is none, or nothing that can be meant."""
    try:
        wait_s = float(headers.get("x-rankine-predicted-wait-ms", "nan")) / 1000
    except ValueError:
        return None
    return wait_s if math.isfinite(wait_s) and wait_s >= 0 else None

"""What a client knows of one server: its load report, how fast it was, and whether it is to be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rankine.client.settings import ClientSettings

__all__ = ["Server", "predicted_wait_of"]

_NEW_WEIGHT = 0.2
"""Of a new latency in the moving average."""
_FORGOTTEN = 10
"""Half-lives after which nothing is left: servers are then equal, and which one is taken is chance."""


@dataclass(slots=True, eq=False)
class Server:
    """One server as this client sees it. All times are on one monotonic clock, in seconds.

    Attributes:
        url: without a final slash.
        outstanding: requests of this client that it has not answered yet.
        ejected: it is left out until a probe is answered, or a request that had no other place to go.
        probe_at_s: when an ejected server is asked for its health.
        retry_at_s: when the request that it refused last may come back.
        paused_until_s: until then it has no room for others either: it refused several in a row.
    """

    url: str
    settings: ClientSettings
    outstanding: int = 0
    ejected: bool = False
    probe_at_s: float = 0.0
    probing: bool = False
    retry_at_s: float = 0.0
    paused_until_s: float = 0.0
    _wait_s: float = 0.0
    _told_at_s: float = 0.0
    _latency_s: float | None = None
    _measured_at_s: float = 0.0
    _refusals: int = 0
    _failures: int = 0
    _ejections: int = 0
    _well_since_s: float = 0.0

    @property
    def is_unknown(self) -> bool:
        """Nothing was asked there yet, as far as this client knows: how fast it is takes a try to find out."""
        return self._latency_s is None and self.outstanding == 0

    @property
    def latency_s(self) -> float | None:
        """What requests took there lately, on average; None before the first answer."""
        return self._latency_s

    def expected_s(self, now_s: float, best_s: float) -> float:
        """When a request that is sent now would be answered: the wait, what is outstanding, and itself.

        What is known fades with age, the reported wait toward none, the latency toward ``best_s``, that of the fastest
        server. So one that was slow once is tried again, while one that is silent repels by what it owes.
        """
        wait_s = self._wait_s * self._fade(now_s - self._told_at_s)
        own_s = best_s if self._latency_s is None else self._latency_s
        service_s = best_s + (own_s - best_s) * self._fade(now_s - self._measured_at_s)
        return wait_s + (1 + self.outstanding) * service_s

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
        self._refusals = 0
        self._average(latency_s, now_s)

    def took_longer(self, than_s: float, now_s: float) -> None:
        """A request was taken back after ``than_s`` without an answer."""
        if self._latency_s is None or than_s > self._latency_s:
            self._average(than_s, now_s)

    def refused(self, retry_after_s: float, now_s: float) -> None:
        """It had no room, for this request: one that is smaller, or has more time, may still find some.

        A server that refuses again before it answered anything gets no requests until ``retry_after_s`` is over: since
        refusals are fast, it would look idle.
        """
        self._refusals += 1
        self.retry_at_s = now_s + min(retry_after_s, self.settings.max_eject_s)
        if self._refusals > 1:
            self.paused_until_s = self.retry_at_s

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

    def _average(self, latency_s: float, now_s: float) -> None:
        old_s = latency_s if self._latency_s is None else self._latency_s
        kept = (1 - _NEW_WEIGHT) * self._fade(now_s - self._measured_at_s)
        self._latency_s = latency_s + (old_s - latency_s) * kept
        self._measured_at_s = now_s

    def _fade(self, age_s: float) -> float:
        half_lives = max(0.0, age_s) / self.settings.half_life_s
        return 0.0 if half_lives > _FORGOTTEN else math.exp2(-half_lives)


def predicted_wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``x-rankine-predicted-wait-ms``; None where there is none, or nothing that can be meant."""
    try:
        wait_s = float(headers.get("x-rankine-predicted-wait-ms", "nan")) / 1000
    except ValueError:
        return None
    return wait_s if math.isfinite(wait_s) and wait_s >= 0 else None

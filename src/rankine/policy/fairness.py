"""Shares among tenants: hard quotas, and weights that count only where tenants compete."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankine.errors import UsageError

__all__ = ["FairShares", "TokenBucket"]


class TokenBucket:
    """So many units a second, of which a burst may be saved up; full at the start.

    Raises:
        UsageError: a rate or a burst is not positive.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        for where, value in (("rate_per_s", rate_per_s), ("burst", burst)):
            if not value > 0.0:
                raise UsageError("must be positive", where=where, got=value)
        self._rate_per_s, self._burst = rate_per_s, burst
        self._tokens, self._filled_s = burst, -math.inf

    def has(self, units: float, now_s: float) -> bool:
        """Whether ``units`` may be taken now; of more than a burst, when it is full."""
        self._fill(now_s)
        return self._tokens >= min(units, self._burst)

    def take(self, units: float, now_s: float) -> None:
        """Take ``units``, if need be on credit."""
        self._fill(now_s)
        self._tokens -= units

    def wait_s(self, units: float, now_s: float) -> float:
        """Seconds until ``units`` may be taken."""
        self._fill(now_s)
        return max(0.0, (min(units, self._burst) - self._tokens) / self._rate_per_s)

    def _fill(self, now_s: float) -> None:
        if now_s > self._filled_s:
            if self._filled_s > -math.inf:
                self._tokens = min(self._burst, self._tokens + self._rate_per_s * (now_s - self._filled_s))
            self._filled_s = now_s


class FairShares:
    """Weighted shares of computing time among the tenants that are active.

    Every tenant has an account in seconds of work, which fills at the rate of its share of those that were active
    lately. One whose account is empty is still let in while hardly anything waits, or while there is no other: what
    nobody else claims is not withheld.

    Args:
        weights: by tenant; 1 for those that are not in it.
        capacity: seconds of work done a second: the number of workers.
        burst_s: seconds of work that a tenant may save up.
        contended_s: tenants compete while more work than this waits.
        active_s: a tenant counts for so long after its last request.

    Raises:
        UsageError: a weight is not positive.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        capacity: float = 1.0,
        burst_s: float = 0.1,
        contended_s: float = 0.005,
        active_s: float = 1.0,
    ) -> None:
        for tenant, weight in weights.items():
            if not 0.0 < weight < math.inf:
                raise UsageError("a weight must be positive", where=f"weights.{tenant}", got=weight)
        self._weights = dict(weights)
        self._capacity, self._burst_s = capacity, burst_s
        self._contended_s, self._active_s = contended_s, active_s
        self._seen_s: dict[str, float] = {}  # by tenant, the one that was seen last at the end
        self._accounts_s: dict[str, float] = {}
        self._total_weight = 0.0
        self._active: dict[str, float] = {}
        self._filled_s = -math.inf

    def may(self, tenant: str, work_s: float, now_s: float, *, waiting_s: float) -> bool:
        """Whether ``tenant`` has a claim on ``work_s`` seconds of work, or nobody competes for them."""
        self._see(tenant, now_s)
        competes = waiting_s > self._contended_s and len(self._active) > 1
        return not competes or self._accounts_s[tenant] >= min(work_s, self._burst_s)

    def charge(self, tenant: str, work_s: float, now_s: float) -> None:
        """Book work that was admitted; an account is overdrawn by one burst at most."""
        self._see(tenant, now_s)
        self._accounts_s[tenant] = max(-self._burst_s, self._accounts_s[tenant] - work_s)

    def wait_s(self, tenant: str, work_s: float, now_s: float) -> float:
        """Seconds until the account of ``tenant`` is good for ``work_s``."""
        self._see(tenant, now_s)
        lacks_s = min(work_s, self._burst_s) - self._accounts_s[tenant]
        return max(0.0, lacks_s * self._total_weight / (self._weights.get(tenant, 1.0) * self._capacity))

    def _see(self, tenant: str, now_s: float) -> None:
        self._fill(now_s)
        if tenant not in self._active:
            self._active[tenant] = weight = self._weights.get(tenant, 1.0)
            self._total_weight += weight
            self._accounts_s.setdefault(tenant, self._burst_s)
        self._seen_s.pop(tenant, None)
        self._seen_s[tenant] = now_s

    def _fill(self, now_s: float) -> None:
        """Fill accounts for the time since the last call, then let go of who has been away."""
        passed_s = now_s - self._filled_s
        if passed_s <= 0.0:
            return
        self._filled_s = now_s
        if passed_s < math.inf and self._total_weight > 0.0:
            each_s = passed_s * self._capacity / self._total_weight
            for tenant, weight in self._active.items():
                self._accounts_s[tenant] = min(self._burst_s, self._accounts_s[tenant] + weight * each_s)
        while self._seen_s:
            tenant, seen_s = next(iter(self._seen_s.items()))
            if now_s - seen_s <= self._active_s:
                break
            del self._seen_s[tenant]
            self._total_weight -= self._active.pop(tenant)
            self._accounts_s.pop(tenant)

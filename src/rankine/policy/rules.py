"""An operator's rules, as one server keeps account of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankine.policy.codel import CoDel
from rankine.policy.fairness import FairShares, TokenBucket
from rankine.policy.gradient import GradientLimit

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """State of the rules; what is None or empty is not ruled.

    Attributes:
        quotas: requests per second, by tenant.
        shares: of computing time among tenants, where they compete.
        concurrency: limit on requests in flight.
        codel: drops requests from the head of a queue that stands.
        dry_run: nothing of it is in force: what it would do is told.
    """

    quotas: Mapping[str, TokenBucket] = field(default_factory=dict)
    shares: FairShares | None = None
    concurrency: GradientLimit | None = None
    codel: CoDel | None = None
    dry_run: bool = False

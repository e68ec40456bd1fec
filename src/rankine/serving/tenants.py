"""What an operator rules about tenants: a TOML file, read again when it changes.

::

    dry_run = true                # count what the rules would do, and do nothing

    [tenants.shop]
    requests_per_s = 200          # a quota: above it 429
    burst = 50                    # requests that may come at once
    share = 3                     # of computing time while others wait; those without one have 1
    priority = "high"             # the highest of its requests, which they have unless they ask for less

    [tenants.default]             # all that have no entry of their own, together
    priority = "normal"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rankine.config import Frozen, parse
from rankine.errors import ConfigError
from rankine.policy.codel import CoDel
from rankine.policy.fairness import FairShares, TokenBucket
from rankine.policy.gradient import GradientLimit
from rankine.policy.priorities import Priority
from rankine.policy.rules import Rules
from rankine.serving.config import ServeConfig

__all__ = ["DEFAULT_TENANT", "TenantPolicy", "TenantRules", "read_rules"]

DEFAULT_TENANT = "default"


class TenantRules(Frozen):
    """Rules for one tenant.

    Attributes:
        requests_per_s: quota; no limit if None.
        burst: requests that may be saved up; those of a second if None.
        share: weight of its share of computing time while others wait.
        priority: the highest that its requests may have, and have unless they ask for a lower one. None: they are
            ``normal``, and may ask for any.
    """

    requests_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    burst: float | None = Field(None, ge=1, allow_inf_nan=False)
    share: float | None = Field(None, gt=0, allow_inf_nan=False)
    priority: Literal["high", "normal", "low"] | None = None

    @model_validator(mode="after")
    def _burst_is_of_a_quota(self) -> Self:
        if self.burst is not None and self.requests_per_s is None:
            raise ValueError("burst is of a quota: give requests_per_s too")
        return self

    def bucket(self, processes: int) -> TokenBucket | None:
        """One process's part of its quota, full."""
        if self.requests_per_s is None:
            return None
        burst = max(1.0, self.burst or self.requests_per_s)
        return TokenBucket(self.requests_per_s / processes, max(1.0, burst / processes))


class TenantPolicy(Frozen):
    """The whole file.

    Attributes:
        dry_run: the rules are not in force; what they would refuse is counted.
        tenants: by the name of an API key's tenant, or of header ``x-rankine-tenant`` where the server has no keys.
        concurrency_limit: a limit on requests in flight by how latency behaves, in case predictions are wrong.
        standing_queue_ms: where requests have waited longer than this for a second, the queue is emptied from its head.
        truncate_to: of requests that bring prior scores, so few candidates may be scored under pressure; never if None.
    """

    dry_run: bool = False
    tenants: dict[str, TenantRules] = Field(default_factory=dict)
    concurrency_limit: bool = False
    standing_queue_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    truncate_to: int | None = Field(None, ge=1)

    def known(self, tenant: str) -> str:
        """The name under which a tenant is accounted."""
        return tenant if tenant in self.tenants else DEFAULT_TENANT

    def priority(self, tenant: str, asked: Priority | None) -> Priority:
        """The priority of a tenant's request, which may have asked for one."""
        rules = self.tenants.get(self.known(tenant))
        if rules is None or rules.priority is None:
            return Priority.NORMAL if asked is None else asked
        highest = Priority[rules.priority.upper()]
        return highest if asked is None else min(asked, highest)

    def rules(self, config: ServeConfig) -> Rules:
        """Fresh state for one process of a server."""
        buckets = {name: rules.bucket(config.processes) for name, rules in self.tenants.items()}
        quotas = {name: bucket for name, bucket in buckets.items() if bucket is not None}
        weights = {name: rules.share for name, rules in self.tenants.items() if rules.share is not None}
        workers = sum(device.workers for device in config.device_pool) or config.workers
        standing_s = None if self.standing_queue_ms is None else self.standing_queue_ms / 1000
        return Rules(
            quotas=quotas,
            shares=FairShares(weights, capacity=workers) if weights else None,
            concurrency=GradientLimit() if self.concurrency_limit else None,
            codel=None if standing_s is None else CoDel(standing_s),
            dry_run=self.dry_run,
        )


def read_rules(path: Path) -> TenantPolicy:
    """The rules of a file.

    Raises:
        ConfigError: it cannot be read, is no TOML, or names the key that is wrong.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("the policy cannot be read", where=str(path), got=error.strerror) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("is no TOML", where=str(path), got=str(error)) from None
    if not values:  # as a file is that is just being written
        hint = "Write `dry_run = false` for no rules. A file is replaced whole by renaming a new one over it."
        raise ConfigError("the policy is empty", where=str(path), hint=hint)
    return parse(TenantPolicy, values, source=str(path))

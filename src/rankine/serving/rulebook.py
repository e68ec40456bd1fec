"""The operator's policy file while a server runs: read again when it changes, without a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rankine.serving.tenants import TenantPolicy, read_rules
from rankine.serving.watched_file import WatchedFile

__all__ = ["RuleBook"]


class RuleBook:
    """The policy of a file, see :class:`~rankine.serving.watched_file.WatchedFile`.

    Args:
        path: of the file, read at once; None: there are no rules.
        changed: called with the policy, now and whenever it is another one: else buckets would be filled anew.
        now_s: on the clock of the times that ``policy_at`` is given.

    Raises:
        ConfigError: the file is missing or wrong.
    """

    def __init__(self, path: Path | None, changed: Callable[[TenantPolicy], None], now_s: float) -> None:
        self._changed = changed
        self._file = None if path is None else WatchedFile(path, read_rules, "the rules", now_s)
        self._policy = TenantPolicy()
        self.policy_at(now_s)

    def policy_at(self, now_s: float) -> TenantPolicy:
        """The policy that holds now."""
        if self._file is None:
            return self._policy
        policy = self._file.at(now_s)
        if policy is not self._policy:
            self._policy = policy
            self._changed(policy)
        return policy

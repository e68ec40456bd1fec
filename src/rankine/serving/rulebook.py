"""The operator's policy file while a server runs: read again when it changes, without a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rankine.errors import ConfigError
from rankine.serving.logs import LOGGER
from rankine.serving.security import state_of
from rankine.serving.tenants import TenantPolicy, read_rules

__all__ = ["RuleBook"]

_LOOK_AGAIN_S = 1.0


class RuleBook:
    """The policy of a file. One that is wrong, or gone, changes nothing, and the log says so.

    Args:
        path: of the file, read at once; None: there are no rules.
        changed: called with the policy, now and whenever it is another one.
        now_s: on the clock of the times that ``policy_at`` is given.

    Raises:
        ConfigError: the file is missing or wrong.
    """

    def __init__(self, path: Path | None, changed: Callable[[TenantPolicy], None], now_s: float) -> None:
        self._path, self._changed = path, changed
        self._looked_s = now_s
        self._policy = TenantPolicy()
        if path is not None:
            self._seen = state_of(path)
            self._policy = read_rules(path)
            changed(self._policy)

    def policy_at(self, now_s: float) -> TenantPolicy:
        """The policy that holds now."""
        if self._path is not None and now_s - self._looked_s >= _LOOK_AGAIN_S:
            self._looked_s = now_s
            self._refresh(self._path)
        return self._policy

    def _refresh(self, path: Path) -> None:
        state = state_of(path)
        if state == self._seen:
            return
        self._seen = state
        before = self._policy
        try:
            self._policy = read_rules(path)
        except ConfigError as error:
            LOGGER.error("the policy stays as it was", extra={"fields": {"error": str(error)}})
            return
        if self._policy == before:  # buckets are not filled anew
            return
        self._changed(self._policy)
        LOGGER.info("the policy was read again", extra={"fields": {"dry_run": self._policy.dry_run}})

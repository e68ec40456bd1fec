"""What becomes of a batch that another server did not run."""

from __future__ import annotations

from rankine.errors import EngineError, UsageError

__all__ = ["RemoteLost", "RemoteMismatch"]


class RemoteLost(EngineError):
    """Another server did not answer a batch, or not in time, or refused it. It is no fault of the batch's."""

    code = "remote_lost"
    http_status = 503


class RemoteMismatch(UsageError):
    """Another server runs something else than what is served here."""

    code = "remote_mismatch"

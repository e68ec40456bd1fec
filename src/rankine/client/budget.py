"""What a client may send beyond its requests: a share of them, so that retries never become the load."""

from __future__ import annotations

__all__ = ["Budget"]


class Budget:
    """A bucket of tokens that fills with requests, not with time: idle clients save up nothing but ``burst``.

    Source: the retry budgets of Finagle and gRPC (proposal A6, "retry throttling").

    Args:
        share: tokens that a request brings; 0 for a budget from which nothing can ever be taken.
        burst: tokens that the bucket holds at most, and at the start.
    """

    def __init__(self, share: float, burst: int) -> None:
        self._share = share
        self._burst = float(burst) if share > 0 else 0.0
        self._tokens = self._burst

    def deposit(self) -> None:
        """A request came."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def __bool__(self) -> bool:
        """Whether there is a token to take."""
        return self._tokens >= 1.0 - 1e-9  # ten tenths are a little less than one

    def take(self) -> bool:
        """Take a token if there is one; whether there was."""
        if not self:
            return False
        self._tokens -= 1.0
        return True

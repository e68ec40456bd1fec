"""How much time is kept for the unforeseen when a request is admitted: as much as experience says, and no more."""

from __future__ import annotations

__all__ = ["Margin"]

_MOST = 4.0


class Margin:
    """Seconds before its deadline by which a request must be predicted to be done.

    It grows with every admitted request that was late and shrinks a little with every one that was not, so that the
    share of late ones settles at ``late_share`` (the recursive estimate of a quantile, Robbins & Monro 1951). Too large
    a margin refuses what could have been done; too small a one lets in what will be late.

    Args:
        late_share: share of admitted requests that may be late.
        step_s: how fast it moves: by nearly so much for each late request.
    """

    def __init__(self, late_share: float = 0.003, step_s: float = 0.0005) -> None:
        self._late_share, self._step_s = late_share, step_s
        self._seconds: float | None = None

    def seconds(self, usual_s: float) -> float:
        """The margin.

        Args:
            usual_s: what the spread of running times suggests: where it starts, and what bounds it.
        """
        return usual_s if self._seconds is None else min(self._seconds, _MOST * usual_s)

    def observe(self, usual_s: float, *, on_time: int = 0, late: int = 0) -> None:
        """Admitted requests were answered, or dropped since they would have been late."""
        moved_s = self._step_s * (late - (on_time + late) * self._late_share)
        self._seconds = max(0.0, self.seconds(usual_s) + moved_s)

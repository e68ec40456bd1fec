"""Sessions that keep to a rung, so that a user who scrolls does not see the order change."""

from __future__ import annotations

__all__ = ["SessionRungs"]


class SessionRungs:
    """The rung of each session that asked for it.

    Args:
        keep_s: a session keeps its rung for so long after its last request.
        most: sessions remembered; beyond it the one that was longest away is forgotten.
    """

    def __init__(self, keep_s: float = 60.0, most: int = 100_000) -> None:
        self._keep_s, self._most = keep_s, most
        self._rungs: dict[str, tuple[int, float]] = {}  # the session that was seen last at the end

    def rung(self, session: str, now_s: float) -> int | None:
        """The rung that ``session`` keeps to; None where it may take any."""
        found = self._rungs.get(session)
        return found[0] if found is not None and now_s - found[1] <= self._keep_s else None

    def saw(self, session: str, rung: int, now_s: float) -> None:
        """``session`` was answered by ``rung``."""
        self._rungs.pop(session, None)
        self._rungs[session] = (rung, now_s)
        if len(self._rungs) > self._most:
            del self._rungs[next(iter(self._rungs))]

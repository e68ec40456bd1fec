"""Which server a request goes to: the better one of two drawn at random, or the session's own.

Two random choices come close to the best of all, and unlike it do not send every client to the same server at once
(Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). A session's server is the one with the
highest hash of both (rendezvous hashing; Thaler and Ravishankar, 1998): when a server leaves, only its sessions move.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b
from random import Random

from rankine.client.servers import Server
from rankine.client.settings import ClientSettings

__all__ = ["Balancer"]

_FIRST_GUESS_S = 0.005
"""What a request takes, before any was answered; only its being above zero matters."""


class Balancer:
    """Chooses among servers; knows nothing of sending.

    Args:
        servers: at least one.
        random: draws the two.
    """

    def __init__(self, servers: Sequence[Server], settings: ClientSettings, random: Random) -> None:
        self.servers = tuple(servers)
        self._settings = settings
        self._random = random

    def pick(self, now_s: float, *, session: str | None = None, avoid: Collection[Server] = ()) -> Server | None:
        """A server that is neither ejected, paused nor in ``avoid``; None where there is none."""
        usable = [s for s in self.servers if not s.ejected and s.paused_until_s <= now_s and s not in avoid]
        if not usable:
            return None
        return self._better_of_two(usable, now_s) if session is None else self._of_session(usable, session, now_s)

    def last_resort(self, now_s: float) -> Server:
        """A server where :meth:`pick` has none: a paused one may have room for a smaller request, else any."""
        alive = [server for server in self.servers if not server.ejected]
        return self._better_of_two(alive or self.servers, now_s)

    def due_for_probe(self, now_s: float) -> list[Server]:
        """Ejected servers whose time is over and which nobody asks yet."""
        return [s for s in self.servers if s.ejected and not s.probing and s.probe_at_s <= now_s]

    def _better_of_two(self, servers: Sequence[Server], now_s: float) -> Server:
        drawn = self._random.sample(servers, min(2, len(servers)))
        best_s = self._best_s()
        return min(drawn, key=lambda server: (not server.is_unknown, server.expected_s(now_s, best_s)))

    def _of_session(self, servers: Sequence[Server], session: str, now_s: float) -> Server:
        """The session's first server, or its second where that is faster by more than a session's warmth is worth."""
        ordered = sorted(servers, key=lambda server: _weight(session, server.url), reverse=True)
        if len(ordered) == 1:
            return ordered[0]
        best_s = self._best_s()
        first, second = (server.expected_s(now_s, best_s) for server in ordered[:2])
        return ordered[1] if first > second + self._settings.spill_s else ordered[0]

    def _best_s(self) -> float:
        known_s = [server.latency_s for server in self.servers if server.latency_s is not None]
        return min(known_s, default=_FIRST_GUESS_S)


def _weight(session: str, url: str) -> bytes:
    return blake2b(f"{session}\0{url}".encode(), digest_size=8).digest()

"""Rankine itself: `rankine serve`, from outside like all the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rankine.demo.servers import running_server
from serving.peers.peer import Peer, Place, Running, Settings
from serving.served import ENGINE, Served
from serving.wires import rank_json


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    with running_server(
        served.artifact,
        variant=served.variant,
        engine=ENGINE,
        catalog=served.catalog,
        cores=place.cores,
        certified=False,
    ) as url:
        yield Running(url, rank_json("/v1/rank", own_headers=True, timings=bool(settings["timings"])))


OWN = Peer("rankine", "Rankine", _start, {"timings": 0})

"""Rankine itself: `rankine serve`, from outside like all the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.peers.peer import Peer, Place, Running, Settings
from serving.processes import free_port, running
from serving.served import ENGINE, Served
from serving.wires import rank_json

_NOTHING: Mapping[str, str] = {}


@contextmanager
def own_server(
    artifact: Path,
    catalog: Path,
    options: Sequence[str],
    *,
    cores: Sequence[int],
    folder: Path,
    environment: Mapping[str, str] = _NOTHING,
) -> Iterator[str]:
    """`rankine serve` with these options; gives its URL. Arguments else as of :func:`serving.processes.running`."""
    port = free_port()
    command = [sys.executable, "-m", "rankine", "serve", str(artifact), "--catalog", str(catalog), "--port", str(port)]
    command += ["--cores", ",".join(map(str, cores)), *options]
    ready = "/v2/health/ready"
    with running(command, cores=cores, port=port, ready=ready, folder=folder, environment=environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    options = ["--variant", served.variant, "--engine", ENGINE, "--allow-uncertified"]
    with own_server(served.artifact, served.catalog, options, cores=place.cores, folder=place.folder) as url:
        yield Running(url, rank_json("/v1/rank", own_headers=True, timings=bool(settings["timings"])))


OWN = Peer("rankine", "Rankine", _start, {"timings": 0})

"""Fixed batch and window in front of the engine, on the HTTP server that Rankine uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.peers.peer import Peer, Place, Running, Settings, arguments
from serving.processes import free_port, running
from serving.served import ENGINE, Served
from serving.wires import rank_json


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    port = free_port()
    command = [str(place.python), "-m", "serving.peers.window_app", *arguments(served, ENGINE, port)]
    command += ["--rows", str(settings["rows"]), "--wait-us", str(settings["wait_us"])]
    with running(command, cores=place.cores, port=port, ready="/", folder=place.folder):
        yield Running(f"http://127.0.0.1:{port}", rank_json("/rank", own_headers=False))


WINDOW = Peer(
    "window",
    "fixed batch and window",
    _start,
    {"rows": 1024, "wait_us": 2000},
    ("uvicorn", "uvloop"),
    "pip install rankine",
)

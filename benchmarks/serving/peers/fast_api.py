"""A plain FastAPI handler with a pool of threads."""

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
    command = [str(place.python), "-m", "serving.peers.fastapi_app", *arguments(served, ENGINE, port)]
    command += ["--threads", str(settings["threads"])]
    with running(command, cores=place.cores, port=port, ready="/ready", folder=place.folder):
        yield Running(f"http://127.0.0.1:{port}", rank_json("/rank", own_headers=False))


FAST_API = Peer(
    "fastapi", "FastAPI, pool of threads", _start, {"threads": 4}, ("fastapi", "uvicorn"), "pip install fastapi"
)

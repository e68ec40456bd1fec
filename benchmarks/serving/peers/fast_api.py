"""FastAPI with a pool of threads: a plain handler as the documentation has it, and one that is tuned for speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.peers.peer import Peer, Place, Running, Settings, arguments
from serving.processes import free_port, running
from serving.served import ENGINE, Served
from serving.wires import rank_json

_PACKAGES, _INSTALL = ("fastapi", "uvicorn"), "pip install fastapi"


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    port = free_port()
    command = [str(place.python), "-m", "serving.peers.fastapi_app", *arguments(served, ENGINE, port)]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    with running(command, cores=place.cores, port=port, ready="/ready", folder=place.folder):
        yield Running(f"http://127.0.0.1:{port}", rank_json("/rank", own_headers=False))


FAST_API = Peer("fastapi", "FastAPI, plain handler", _start, {}, _PACKAGES, _INSTALL)
FAST_API_TUNED = Peer("fastapi_tuned", "FastAPI, msgspec and one thread", _start, {"threads": 1}, _PACKAGES, _INSTALL)

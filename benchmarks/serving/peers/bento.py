"""BentoML's adaptive batcher, which fits the time of a batch to the number of its requests while it serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from serving.peers.peer import Peer, Place, Running, Settings
from serving.processes import BENCHMARKS, free_port, running
from serving.served import ENGINE, Served
from serving.wires import rank_lists


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    port = free_port()
    told = {
        "artifact": str(served.artifact),
        "catalog": str(served.catalog),
        "variant": served.variant,
        "engine": ENGINE,
        **settings,
    }
    command = [str(place.python), "-m", "bentoml", "serve", "serving.peers.bento_service:Ranking"]
    command += ["--working-dir", str(BENCHMARKS), "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "RANKINE_BENTO": json.dumps(told),
        "BENTOML_HOME": str(place.folder / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    with running(command, cores=place.cores, port=port, ready="/readyz", folder=place.folder, environment=environment):
        yield Running(f"http://127.0.0.1:{port}", rank_lists("/rank"))


BENTO = Peer(
    "bentoml",
    "BentoML, adaptive batcher",
    _start,
    {"max_requests": 16, "max_latency_ms": 50},
    ("bentoml",),
    "pip install bentoml",
)

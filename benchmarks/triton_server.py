"""What Triton server adds to the engine's own time, of what `rankine export triton-server` writes.

    python benchmarks/triton_server.py --work FOLDER --out benchmarks/results/triton-server.json

DCN-v2 (big) in INT8, as `serving_goodput.py` builds it, ranked through tritonclient by the real Triton server and by
`rankine serve`, over HTTP and gRPC, beside the engine's call in this process. Servers and engine have one core, the
client the other; one call after the other, of each in turn, so that a slow minute meets all alike. Needs
nvidia-pytriton, which `make install` installs. Four minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from script import existing_folder, new_file, run_script
from serving.models import open_served
from serving.peers.triton_binary import PACKAGE, triton_binary
from serving.processes import free_port, running
from serving.served import Served

from rankine.compilation.fastest import task_count
from rankine.environment import environment
from rankine.serving.config import ServeConfig
from rankine.serving.examples import example_bodies
from rankine.serving.model import ServedModel, open_model
from rankine.serving.protocols.rank import RankProtocol
from rankine.serving.triton.batching import batch_sizes
from rankine.serving.triton.repository import write_repository
from rankine.serving.triton.warmup import Tensors, warmup_tensors
from rankine.serving.work import join

ROWS = (1, 64, 512, 1024)
_WARM = 20
Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=existing_folder, required=True, help="folder for the model, built if it is not there"
    )
    parser.add_argument("--out", type=new_file, required=True, help="result file")
    parser.add_argument("--calls", type=int, default=400, help="of each way at each number of rows [default: 400]")
    arguments = parser.parse_args()
    served = open_served("big", arguments.work, compressed=None, data_root=Path("../shared/data"))
    result = measure(served, arguments.work / "triton-server", arguments.calls)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(served: Served, folder: Path, calls: int) -> dict[str, Any]:
    """The result file's content."""
    server_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    config = ServeConfig(
        artifact=served.artifact, catalog=served.catalog, variant=served.variant, engine="native",
        allow_uncertified=True, port=free_port(), grpc_port=free_port(),
    )  # fmt: skip
    with ExitStack() as leave:
        ports = leave.enter_context(_triton(config, folder, server_core))
        leave.enter_context(_ours(config, folder, server_core))
        os.sched_setaffinity(0, {client_core})
        model = open_model(config)
        engine_thread = leave.enter_context(
            ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {server_core}))
        )
        clients = {
            "triton_http": (over_http, over_http.InferenceServerClient(f"127.0.0.1:{ports[0]}")),
            "triton_grpc": (over_grpc, over_grpc.InferenceServerClient(f"127.0.0.1:{ports[1]}")),
            "serve_http": (over_http, over_http.InferenceServerClient(f"127.0.0.1:{config.port}")),
            "serve_grpc": (over_grpc, over_grpc.InferenceServerClient(f"127.0.0.1:{config.grpc_port}")),
        }
        measured = []
        for rows in ROWS:
            tensors = warmup_tensors(model, "rank", rows)
            ways = {name: _asking(*client, f"{model.name}.rank", tensors) for name, client in clients.items()}
            apart = _apart({name: ways[name]() for name in ways})
            engine = _engine(model, rows)
            ms = _timed(ways, engine, engine_thread, calls)
            measured.append({"rows": rows, "calls": calls, "scores_apart": apart, "ms": ms})
        for _, client in clients.values():
            client.close()
        model.runner.close()
    return {
        "schema_version": 1,
        "model": "DCN-v2 (big), INT8, in parts",
        "engine": config.engine,
        "triton": metadata.version(PACKAGE),
        "measured": measured,
        "environment": environment(),
    }


@contextmanager
def _triton(config: ServeConfig, folder: Path, core: int) -> Iterator[tuple[int, int]]:
    """Its ports over HTTP and gRPC."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_repository(config, folder / "models", batch_sizes({}), forms=("rank",))
    binary = triton_binary(Path(sys.executable), folder)
    ports = free_port(), free_port()
    command = [*binary.command, "--model-repository", str(folder / "models"), "--allow-metrics=false"]
    command += [
        f"--http-port={ports[0]}",
        f"--grpc-port={ports[1]}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
    ]
    with running(
        command, cores=[core], port=ports[0], ready="/v2/health/ready", folder=folder / "log",
        environment={**binary.environment, "PYTHONPATH": os.pathsep.join(binary.paths)},
    ):  # fmt: skip
        yield ports


@contextmanager
def _ours(config: ServeConfig, folder: Path, core: int) -> Iterator[None]:
    command = [sys.executable, "-m", "rankine", "serve", str(config.artifact), "--catalog", str(config.catalog)]
    command += ["--variant", str(config.variant), "--engine", str(config.engine), "--allow-uncertified"]
    command += ["--port", str(config.port), "--grpc-port", str(config.grpc_port)]
    with running(command, cores=[core], port=config.port, ready="/v2/health/ready", folder=folder / "serve"):
        yield


def _asking(library: Any, client: Any, model: str, tensors: Tensors) -> Callable[[], Any]:
    """A call that ranks the same request each time. Its inputs are made once, as NVIDIA's perf_analyzer makes them."""
    inputs = []
    for name, datatype, values in tensors:
        inputs.append(library.InferInput(name, list(values.shape), datatype))
        inputs[-1].set_data_from_numpy(values)
    return lambda: client.infer(model, inputs, parameters={"top_k": 50})


def _engine(model: ServedModel, rows: int) -> Call:
    """The engine's call for the same request, as a server makes it."""
    [body] = example_bodies(model, count=1, candidates=rows, seed=rows, max_candidates=rows)
    work = RankProtocol(model, max_candidates=rows).prepare(
        msgspec.json.encode(body), arrived_s=perf_counter(), deadline_s=float("inf"), announced=None
    )
    batch = join([work.work], model.runner.complete)
    out = np.empty((rows, task_count(model.artifact)), np.float32)
    return lambda: model.runner.run(batch, out)


def _timed(ways: Mapping[str, Call], engine: Call, thread: ThreadPoolExecutor, calls: int) -> dict[str, Any]:
    """Quartiles of milliseconds of each way, and of the engine's calls in ``thread``, which is on the servers' core."""
    spent: dict[str, list[float]] = {name: [] for name in ("engine", *ways)}
    for number in range(_WARM + calls):
        found = {"engine": thread.submit(_clocked, engine).result()}
        found |= {name: _clocked(way) for name, way in ways.items()}
        for name, ms in found.items():
            if number >= _WARM:
                spent[name].append(ms)
    return {name: _quartiles(values) for name, values in spent.items()}


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(("p25", "p50", "p75"), np.percentile(values, (25, 50, 75)).tolist(), strict=True))


def _clocked(way: Call) -> float:
    begin = perf_counter()
    way()
    return 1000 * (perf_counter() - begin)


def _apart(results: Mapping[str, Any]) -> float:
    """Largest difference of any score from the first's."""
    scores: Sequence[np.ndarray] = [found.as_numpy("scores") for found in results.values()]
    ids = [found.as_numpy("ids").tolist() for found in results.values()]
    if any(one != ids[0] for one in ids):
        return float("inf")
    return float(max(np.abs(one - scores[0]).max() for one in scores))


if __name__ == "__main__":
    run_script(main)

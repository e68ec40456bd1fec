"""Triton Inference Server's dynamic batcher: the binary of the wheel nvidia-pytriton, with its python backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.peers.peer import Peer, Place, Running, Settings
from serving.peers.triton_binary import PACKAGE, triton_binary
from serving.processes import BENCHMARKS, free_port, running
from serving.queries import Mix
from serving.served import ENGINE, Served
from serving.wires import oip_binary, tensor_groups

_TYPES = {"numbers": "TYPE_FP32", "values": "TYPE_INT64", "words": "TYPE_UINT8"}


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    binary = triton_binary(place.python, place.folder)
    groups = tensor_groups(served.users[0])
    _write_model(place.folder / "models" / "ranker", served, groups, settings, binary.site)
    port = free_port()
    command = [*binary.command, "--model-repository", str(place.folder / "models")]
    command += ["--http-port", str(port), "--http-address", "127.0.0.1"]
    command += ["--allow-grpc=false", "--allow-metrics=false", "--disable-auto-complete-config"]
    command += [f"--http-thread-count={settings['http_threads']}"]
    with running(
        command, cores=place.cores, port=port, ready="/v2/models/ranker/ready", folder=place.folder,
        environment=binary.environment,
    ):  # fmt: skip
        yield Running(f"http://127.0.0.1:{port}", oip_binary("/v2/models/ranker/infer", groups))


def _write_model(
    folder: Path, served: Served, groups: Mapping[str, Sequence[str]], settings: Settings, site: str
) -> None:
    """A model repository of one version."""
    (folder / "1").mkdir(parents=True)
    lines = ["import site", "import sys", f"site.addsitedir({site!r})", f"sys.path.insert(0, {str(BENCHMARKS)!r})"]
    lines += ["from serving.peers.triton_model import TritonPythonModel"]
    (folder / "1" / "model.py").write_text("\n".join((*lines, "")), encoding="utf-8")
    told = {
        "artifact": str(served.artifact),
        "catalog": str(served.catalog),
        "variant": served.variant,
        "engine": ENGINE,
        "groups": groups,
        "top_k": Mix().top_k,
    }
    tensors = [_tensor("input", "ids", "TYPE_INT64", -1, ragged=True)]
    tensors += [_tensor("input", name, _TYPES[name], -1, ragged=True) for name in groups]
    tensors += [
        _tensor("output", name, kind, width)
        for name, kind, width in (("ids", "TYPE_INT64", -1), ("scores", "TYPE_FP32", -1), ("run_ms", "TYPE_FP32", 1))
    ]
    config = f"""\
name: "ranker"
backend: "python"
max_batch_size: {settings["max_requests"]}
instance_group [{{ kind: KIND_CPU, count: 1 }}]
dynamic_batching {{
  max_queue_delay_microseconds: {settings["delay_us"]}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {settings["timeout_us"]}
    allow_timeout_override: {"true" if settings["timeout_us"] else "false"}
  }}
}}
parameters {{ key: "told" value: {{ string_value: {json.dumps(json.dumps(told))} }} }}
"""
    (folder / "config.pbtxt").write_text(config + "\n".join(tensors) + "\n", encoding="utf-8")


def _tensor(side: str, name: str, kind: str, width: int, *, ragged: bool = False) -> str:
    more = ", allow_ragged_batch: true" if ragged else ""
    return f'{side} [{{ name: "{name}", data_type: {kind}, dims: [{width}]{more} }}]'


TRITON = Peer(
    "triton",
    "Triton server, dynamic batcher",
    _start,
    {"delay_us": 200, "max_requests": 16, "timeout_us": 50_000, "http_threads": 2},
    (PACKAGE,),
    "pip install --no-deps nvidia-pytriton",
)

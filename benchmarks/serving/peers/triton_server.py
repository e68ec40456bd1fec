"""Triton Inference Server's dynamic batcher: the binary that the wheel nvidia-pytriton brings, with its python backend.

The wheel's own launcher is not used. The binary wants the backends in a folder with the stub of the running Python
beside ``libtriton_python.so``, and the wheel's libraries and Python's own on the library path.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.peers.peer import Peer, Place, Running, Settings
from serving.processes import BENCHMARKS, free_port, running
from serving.queries import Mix
from serving.served import ENGINE, Served
from serving.wires import oip_binary, tensor_groups

_TYPES = {"numbers": "TYPE_FP32", "values": "TYPE_INT64", "words": "TYPE_UINT8"}
_ASK = (
    "import json, sys, sysconfig; print(json.dumps({'site': sysconfig.get_paths()['purelib'], 'home': sys.base_prefix,"
    " 'libraries': sysconfig.get_config_var('LIBDIR'), 'version': '%d.%d' % sys.version_info[:2]}))"
)


@contextmanager
def _start(served: Served, place: Place, settings: Settings) -> Iterator[Running]:
    python = json.loads(subprocess.run([place.python, "-c", _ASK], capture_output=True, check=True).stdout)
    wheel = Path(python["site"]) / "pytriton" / "tritonserver"
    backends = place.folder / "backends"
    shutil.copytree(wheel / "backends", backends)
    stub = wheel / "python_backend_stubs" / python["version"] / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    groups = tensor_groups(served.users[0])
    _write_model(place.folder / "models" / "ranker", served, groups, settings, python["site"])
    port = free_port()
    command = [str(wheel / "bin" / "tritonserver"), "--model-repository", str(place.folder / "models")]
    command += ["--backend-directory", str(backends), "--http-port", str(port), "--http-address", "127.0.0.1"]
    command += ["--allow-grpc=false", "--allow-metrics=false", "--disable-auto-complete-config"]
    command += [f"--http-thread-count={settings['http_threads']}"]
    libraries = f"{python['libraries']}:{Path(python['site']) / 'nvidia_pytriton.libs'}"
    environment = {"LD_LIBRARY_PATH": libraries, "PYTHONHOME": python["home"]}
    with running(
        command, cores=place.cores, port=port, ready="/v2/models/ranker/ready", folder=place.folder,
        environment=environment,
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
    ("nvidia-pytriton",),
    "pip install --no-deps nvidia-pytriton",
)

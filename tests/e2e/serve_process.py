"""A real server in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any

from prometheus_client.parser import text_string_to_metric_families

from rankine.serving import ServeConfig

_NOTHING: Mapping[str, str] = {}
_PROGRAM = """
import sys
from rankine.config import parse
from rankine.errors import RankineError
from rankine.events import Note
from rankine.serving import ServeConfig, serve
import json

def tell(event):
    if isinstance(event, Note) and event.task == "serve":
        print(event.figures["url"], flush=True)

try:
    serve(parse(ServeConfig, json.loads(sys.argv[1])), tell)
except RankineError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


@dataclass(frozen=True)
class Answer:
    """A reply: its status, headers with lower-case names, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ServerProcess:
    """A started server. ``stop`` ends it as an operator would, with SIGTERM."""

    process: subprocess.Popen[str]
    url: str
    port: int
    log: list[str]
    reader: threading.Thread | None

    def connect(self, timeout_s: float = 30) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own; ``body`` is sent as JSON unless it is bytes."""
        connection = self.connect()
        try:
            raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            sent = {"content-type": "application/json"} | dict(headers or {})
            connection.request(method, path, raw, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """What ``/metrics`` tells now: the sum of all series of this name that have these labels."""
        families = text_string_to_metric_families(self.ask("GET", "/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status, once the process has ended and its log is read."""
        status = self.process.wait(30)
        if self.reader is not None:
            self.reader.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.terminate()
        return self.wait()


def start_server(config: ServeConfig, environment: Mapping[str, str] = _NOTHING, *, limits: str = "") -> ServerProcess:
    """Start a server and wait until it answers; ``limits`` are options of the shell's ulimit.

    Raises:
        AssertionError: it ended instead; with its log.
    """
    process = run_server(config, environment, limits=limits)
    assert process.stdout is not None
    assert process.stderr is not None
    url = process.stdout.readline().strip()
    if not url:
        _, log = process.communicate(timeout=30)
        raise AssertionError(f"the server ended with status {process.returncode}: {log}")
    lines: list[str] = []
    # Somebody must read the log, or the server would block once the pipe is full.
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    return ServerProcess(process, url, int(url.rsplit(":", 1)[1]), lines, reader)


def run_server(
    config: ServeConfig,
    environment: Mapping[str, str] = _NOTHING,
    stderr: int | IO[bytes] = subprocess.PIPE,
    *,
    limits: str = "",
) -> subprocess.Popen[str]:
    """The bare process, for servers that are not expected to start, or whose log nobody reads."""
    source = str(Path(__file__).resolve().parents[2] / "src")
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    limited = ["/bin/sh", "-c", f'ulimit {limits} && exec "$@"', "sh"] if limits else []
    return subprocess.Popen(
        [*limited, sys.executable, "-c", _PROGRAM, config.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | dict(environment),
    )

"""The real ``tritonserver``: the binary that the wheel nvidia-pytriton brings, which ``make install`` installs."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import end_without

__all__ = ["TritonServer", "free_port"]

_START_S, _STOP_S = 180.0, 60.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _wheel() -> Path:
    found = importlib.util.find_spec("pytriton")
    if found is None or found.origin is None:
        end_without("no tritonserver: pip install --no-deps -c constraints.txt nvidia-pytriton")
    return Path(found.origin).parent / "tritonserver"


@dataclass
class TritonServer:
    """A Triton server on a model repository; it can be killed and started again on the same ports.

    Attributes:
        folder: for its log, and for backends with the stub of the running Python beside ``libtriton_python.so``.
    """

    repository: Path
    folder: Path
    http_port: int = 0
    grpc_port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> TritonServer:
        """Start it, and return when its models are ready.

        Raises:
            RuntimeError: it ended; carries the end of its log.
        """
        self.launch()
        until = time.monotonic() + _START_S
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(" ".join(line for line in self.log().splitlines() if "rror" in line)[:6000])
            time.sleep(0.1)
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        wheel = _wheel()
        backends = self.folder / "backends"
        if not backends.exists():
            shutil.copytree(wheel / "backends", backends)
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            shutil.copy(wheel / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
        self.http_port, self.grpc_port = self.http_port or free_port(), self.grpc_port or free_port()
        command = [wheel / "bin" / "tritonserver", "--model-repository", self.repository]
        command += ["--backend-directory", backends, "--allow-metrics=false", "--disable-auto-complete-config"]
        command += ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
        command += [f"--http-port={self.http_port}", f"--grpc-port={self.grpc_port}"]
        libraries = [sysconfig.get_config_var("LIBDIR"), str(wheel.parent.parent / "nvidia_pytriton.libs")]
        environment = {"LD_LIBRARY_PATH": ":".join(libraries), "PYTHONHOME": sys.base_prefix}
        environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether it says that all its models are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """End it, and the processes of its models, without a word."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would."""
        self._signal(signal.SIGTERM)

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def _log(self) -> Path:
        return self.folder / "tritonserver.log"

    def _signal(self, number: int) -> None:
        if self.process is None:
            return
        for each in (number, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, each)
                self.process.wait(_STOP_S)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.process = None

"""How the binary of Triton server that the wheel nvidia-pytriton brings is started.

The wheel's own launcher is not used. The binary wants the backends in a folder with the stub of the running Python
beside ``libtriton_python.so``, and the wheel's libraries and Python's own on the library path.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PACKAGE", "TritonBinary", "triton_binary"]

PACKAGE = "nvidia-pytriton"
_ASK = (
    "import json, sys, sysconfig; print(json.dumps({'site': sysconfig.get_paths()['purelib'], 'home': sys.base_prefix,"
    " 'libraries': sysconfig.get_config_var('LIBDIR'), 'version': '%d.%d' % sys.version_info[:2],"
    " 'paths': [path for path in sys.path if path]}))"
)


@dataclass(frozen=True)
class TritonBinary:
    """What starts it.

    Attributes:
        command: with the folder of its backends; options of one's own follow.
        environment: added to that of the process.
        site: where the packages of the interpreter lie. ``paths``: all that it imports from.
    """

    command: list[str]
    environment: Mapping[str, str]
    site: str
    paths: list[str]


def triton_binary(python: Path, folder: Path) -> TritonBinary:
    """Of the wheel that the interpreter ``python`` has; the backends are copied into ``folder``."""
    told = json.loads(subprocess.run([python, "-c", _ASK], capture_output=True, check=True).stdout)
    wheel = Path(told["site"]) / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(wheel / "backends", backends)
    stub = wheel / "python_backend_stubs" / told["version"] / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    libraries = f"{told['libraries']}:{Path(told['site']) / 'nvidia_pytriton.libs'}"
    environment = {"LD_LIBRARY_PATH": libraries, "PYTHONHOME": told["home"]}
    command = [str(wheel / "bin" / "tritonserver"), "--backend-directory", str(backends)]
    return TritonBinary(command, environment, told["site"], told["paths"])

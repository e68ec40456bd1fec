"""What every compared server is to the harness."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from serving.served import Served
from serving.wires import Wire

Settings = Mapping[str, int]


@dataclass(frozen=True)
class Place:
    """Where a server runs.

    Attributes:
        python: interpreter that has the peers' packages and Rankine.
        cores: that the server is pinned to.
        folder: for its log and its files.
    """

    python: Path
    cores: Sequence[int]
    folder: Path


@dataclass(frozen=True)
class Running:
    """A server that is ready: where it listens and what it takes."""

    url: str
    wire: Wire


@dataclass(frozen=True)
class Peer:
    """A server that can be started.

    Attributes:
        name: on the command line and in results.
        title: on the page.
        start: runs it while the context is open; the settings are its own, all of them.
        settings: the ones it is measured with unless others are given.
        packages: distributions that its interpreter must have.
        install: how to get them.
    """

    name: str
    title: str
    start: Callable[[Served, Place, Settings], AbstractContextManager[Running]]
    settings: Settings
    packages: tuple[str, ...] = ()
    install: str = ""

    def versions(self, python: Path) -> Mapping[str, str | None]:
        """Of its packages; None of those that are not installed."""
        command = [python, "-c", _VERSIONS, *self.packages]
        found: Mapping[str, str | None] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return found


_VERSIONS = """
import json, sys
from importlib import metadata
found = {one.metadata["Name"].lower().replace("_", "-"): one.version for one in metadata.distributions()}
print(json.dumps({name: found.get(name) for name in sys.argv[1:]}))
"""


def arguments(served: Served, engine: str, port: int) -> list[str]:
    """What the processes of peers are told of the model, and where to listen."""
    given = {"artifact": served.artifact, "catalog": served.catalog, "variant": served.variant, "engine": engine}
    return [word for name, value in {**given, "port": port}.items() for word in (f"--{name}", str(value))]

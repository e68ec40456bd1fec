"""What every compared server is to the harness."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from serving.models import Served
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
        modules: that its interpreter must have.
        install: how to get them.
    """

    name: str
    title: str
    start: Callable[[Served, Place, Settings], AbstractContextManager[Running]]
    settings: Settings
    modules: tuple[str, ...] = ()
    install: str = ""

    def missing(self, python: Path) -> str | None:
        """Why it cannot be run, or None."""
        found = (
            f"import importlib.util as u, sys; sys.exit([m for m in {self.modules!r} if not u.find_spec(m)] or None)"
        )
        checked = subprocess.run([python, "-c", found], capture_output=True, text=True, check=False)
        if checked.returncode == 0:
            return None
        return f"not installed for {python.name}: {checked.stderr.strip()[-200:]}. Run: {self.install}"


def arguments(served: Served, engine: str, port: int) -> list[str]:
    """What the processes of peers are told of the model, and where to listen."""
    given = {"artifact": served.artifact, "catalog": served.catalog, "variant": served.variant, "engine": engine}
    return [word for name, value in {**given, "port": port}.items() for word in (f"--{name}", str(value))]

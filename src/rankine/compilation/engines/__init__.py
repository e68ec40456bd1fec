"""One file an engine; each is imported when asked for. An engine that cannot load is listed with its reason.

Other packages bring engines by entry points of the group ``rankine.engines``: the name, and the function that returns
the engine, as ``my_engine = "my_package.engine:engine"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from rankine.compilation.engine import Capabilities, Engine
from rankine.errors import EngineMissing, did_you_mean

__all__ = ["GROUP", "check_known", "engine_names", "installed", "load_engine"]

GROUP = "rankine.engines"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an engine is, and what to do where it does not load."""

    module: str
    hint: str
    function: str = "engine"


_ENGINES = {
    "reference": _Entry("rankine.compilation.engines.reference", "pip install 'rankine[compile]'"),
    "eager": _Entry("rankine.compilation.engines.eager", "pip install 'rankine[train]'"),
    "native": _Entry("rankine.compilation.engines.native", "pip install rankine"),
    "onnxruntime": _Entry("rankine.compilation.engines.onnxruntime", "pip install rankine"),
    "openvino": _Entry("rankine.compilation.engines.openvino", "pip install 'rankine[openvino]'"),
    "inductor": _Entry("rankine.compilation.engines.inductor", "pip install 'rankine[train]'"),
    "qnn": _Entry("rankine.compilation.engines.qnn", "pip install 'rankine[qnn]'"),
    "tvm": _Entry("rankine.compilation.engines.tvm", "pip install 'rankine[tvm]'"),
    "simulated": _Entry("rankine.compilation.engines.simulated", "pip install rankine"),
    "triton-lang": _Entry(
        "rankine.compilation.engines.triton_lang", "pip install 'rankine[gpu]', on a machine with an NVIDIA GPU"
    ),
    "xla": _Entry("rankine.compilation.engines.xla", "pip install 'rankine[xla]'"),
}


def engine_names() -> list[str]:
    """Names of all engines, installed or not; those of other packages last."""
    return [*_ENGINES, *_brought()]


def check_known(*names: str) -> None:
    """Refuse a name that no engine has, installed or not.

    Raises:
        EngineMissing: names it, and the one that was meant.
    """
    known = engine_names()
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known) or ""
            raise EngineMissing("unknown engine", got=name, hint=f"{meant} `rankine doctor` tells of each.".strip())


def load_engine(name: str) -> Engine:
    """Import an engine.

    Raises:
        EngineMissing: it is unknown, or its library is not installed or cannot be loaded here; of another package's
            engine also, it cannot tell what it can do.
    """
    entry = _ENGINES.get(name)
    if entry is not None:
        with _told(name, entry, (ImportError, OSError)):  # OSError: a shared library of the package does not load
            return _load(entry)
    check_known(name)
    with _told(name, brought := _brought()[name], (Exception,)):  # whatever others do wrong, `rankine doctor` lists it
        engine = _load(brought)
        if not isinstance(found := engine.capabilities(), Capabilities):
            raise TypeError(f"capabilities() gives {type(found).__name__}, no Capabilities")
    return engine


def installed() -> list[tuple[str, Capabilities | EngineMissing]]:
    """Every engine with its capabilities, or with the error that says why it cannot be used and what to do."""
    found: list[tuple[str, Capabilities | EngineMissing]] = []
    for name in engine_names():
        try:
            found.append((name, load_engine(name).capabilities()))
        except EngineMissing as error:
            found.append((name, error))
    for point in _points():
        if point.name in _ENGINES:
            hint = "Rename the entry point."
            found.append(
                (point.name, EngineMissing("the name is taken", got=f"{point.name} of {_who(point)}", hint=hint))
            )
    return found


def _load(entry: _Entry) -> Engine:
    engine: Engine = getattr(import_module(entry.module), entry.function)()
    return engine


@contextmanager
def _told(name: str, entry: _Entry, failures: tuple[type[Exception], ...]) -> Iterator[None]:
    """Whatever of ``failures`` is raised is told as an engine that is missing, with what to do."""
    try:
        yield
    except failures as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EngineMissing(f"the engine '{name}' is not available", got=reason, hint=entry.hint) from error


def _brought() -> dict[str, _Entry]:
    """Engines of other packages, by name; whoever takes a name of Rankine's own is left out."""
    return {
        point.name: _Entry(
            point.module, f"See to the package '{_who(point)}', which brings it.", point.attr or "engine"
        )
        for point in sorted(_points(), key=lambda point: point.name)
        if point.name not in _ENGINES
    }


def _points() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def _who(point: EntryPoint) -> str:
    """The package that brings an engine."""
    return point.dist.name if point.dist is not None else point.module

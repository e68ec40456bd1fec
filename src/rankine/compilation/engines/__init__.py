"""One file an engine; each is imported when asked for. An engine that cannot load is listed with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from rankine.compilation.engine import Capabilities, Engine
from rankine.errors import EngineMissing, did_you_mean

__all__ = ["engine_names", "installed", "load_engine"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an engine is, and the line that installs what it needs."""

    module: str
    install: str


_ENGINES = {
    "reference": _Entry("rankine.compilation.engines.reference", "pip install 'rankine[compile]'"),
    "eager": _Entry("rankine.compilation.engines.eager", "pip install 'rankine[train]'"),
    "native": _Entry("rankine.compilation.engines.native", "pip install rankine"),
    "onnxruntime": _Entry("rankine.compilation.engines.onnxruntime", "pip install rankine"),
    "openvino": _Entry("rankine.compilation.engines.openvino", "pip install 'rankine[openvino]'"),
}


def engine_names() -> list[str]:
    """Names of all engines, installed or not."""
    return list(_ENGINES)


def load_engine(name: str) -> Engine:
    """Import an engine.

    Raises:
        EngineMissing: it is unknown, or its library is not installed or cannot be loaded here.
    """
    if name not in _ENGINES:
        raise EngineMissing("unknown engine", got=name, hint=did_you_mean(name, _ENGINES))
    entry = _ENGINES[name]
    try:
        engine: Engine = import_module(entry.module).engine()
    except (ImportError, OSError) as error:  # OSError: a shared library of the package does not load
        reason = " ".join(str(error).split())
        raise EngineMissing(f"the engine '{name}' is not available", got=reason, hint=entry.install) from error
    return engine


def installed() -> list[tuple[str, Capabilities | EngineMissing]]:
    """Every engine with its capabilities, or with the error that says why it cannot be used and what installs it."""
    found: list[tuple[str, Capabilities | EngineMissing]] = []
    for name in _ENGINES:
        try:
            found.append((name, load_engine(name).capabilities()))
        except EngineMissing as error:
            found.append((name, error))
    return found

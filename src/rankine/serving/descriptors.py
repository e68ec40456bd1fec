"""File descriptors: every connection needs one, and where none is left the kernel's connections are cut without a word.

So the limit is raised as far as the system lets it, and a server takes no more connections than there are descriptors
for: who comes then is told so (503), for which some are kept.
"""

from __future__ import annotations

import contextlib
import errno
import os

from rankine.errors import UsageError
from rankine.serving.config import ServeConfig
from rankine.serving.listen import ACCEPTED
from rankine.serving.logs import LOGGER

try:
    import resource
except ImportError:  # not on Windows, which has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["REFUSED", "bounded", "none_is_left", "raise_limit"]

REFUSED = 32
"""Connections that are being refused: each hears why, and is read for a while, so that it sees the answer."""
_FILES = 1024
"""Asked for beside those of connections: tables that are mapped, logs, workers."""
_MORE = 32
"""To be opened once it serves, beside what is opened anew: what gRPC listens with, scrapes, files that are watched."""
_OPEN = "/dev/fd"
_HOW = (
    "Raise it: `ulimit -n N` in the shell that starts the server, `LimitNOFILE=` of a systemd unit, "
    "`--ulimit nofile=N` of a container; or lower --max-connections."
)


def raise_limit(config: ServeConfig) -> None:
    """Let this process, and those that it starts, have as many as its connections need, as far as the system does."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _each(config) * config.max_connections + _FILES
    if _is_enough(soft, needed):
        return
    with contextlib.suppress(OSError, ValueError):  # some systems name a hard limit above what they give
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if _is_enough(hard, needed) else hard, hard))


def bounded(config: ServeConfig) -> ServeConfig:
    """``config`` with no more connections than this process, which has its model open, has descriptors for.

    Raises:
        UsageError: there are none for connections at all.
    """
    if resource is None:
        return config
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A new generation of the catalog, and a worker in the place of one that died, are opened beside those before.
    kept = 2 * len(os.listdir(_OPEN)) + _MORE + ACCEPTED + REFUSED
    if _is_enough(limit, kept + _each(config) * config.max_connections):
        return config
    room = (limit - kept) // _each(config)
    if room < 1:
        least = kept + _each(config)
        raise UsageError(
            "too few file descriptors", where="ulimit -n", got=limit, allowed=f"at least {least}", hint=_HOW
        )
    fields = {"max_connections": config.max_connections, "allowed": room, "descriptors": limit, "kept": kept}
    LOGGER.warning("too few file descriptors for --max-connections", extra={"fields": fields | {"hint": _HOW}})
    return config.model_copy(update={"max_connections": room})


def none_is_left() -> bool:
    """Whether this process, or the system, has no more descriptors: then connections are cut that nobody has seen."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _each(config: ServeConfig) -> int:
    """Descriptors for each of ``max_connections``: one of each transport; where there are several processes one over
    which its request is handed over, and one over which another's comes in."""
    return 1 + (config.grpc_port is not None) + 2 * (config.processes > 1)


def _is_enough(limit: int, needed: int) -> bool:
    return limit >= needed or limit < 0  # -1 is no limit

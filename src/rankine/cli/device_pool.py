"""The options ``--device-pool`` and ``--remote`` of ``rankine serve``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rankine.errors import UsageError

__all__ = ["device_pool_option", "parse_device", "remote_option"]

_ALLOWED = "engine=NAME, and threads=N, workers=N, cores=N+N, device=NAME, and options of the engine"
_OWN = ("engine", "device", "threads", "workers", "cores")


def _parse(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[dict[str, object], ...]:
    """Each device as the mapping that :class:`~rankine.serving.config.PoolDeviceConfig` is read from."""
    return tuple(parse_device(text) for text in value)


def parse_device(text: str) -> dict[str, object]:
    """``engine=NAME,...`` as a mapping; what no device has is an option of the engine, which refuses what it lacks.

    Raises:
        UsageError: not pairs of names and values, or a name twice.
    """
    found: dict[str, object] = {}
    options: dict[str, str] = {}
    for part in text.split(","):
        name, sign, given = part.partition("=")
        if not sign or not name or name in found or name in options:
            raise UsageError("not a device of a pool", where="--device-pool", got=text, allowed=_ALLOWED)
        if name in _OWN:
            found[name] = given.split("+") if name == "cores" else given
        else:
            options[name] = given
    return found | ({"options": options} if options else {})


device_pool_option = click.option(
    "--device-pool",
    multiple=True,
    callback=_parse,
    metavar="engine=NAME,...",
    help="A device that shares the work; give it once for each. Keys: engine, threads, workers, cores=0+1, device, "
    "and options that an engine has itself [default: one device, by the options above].",
)


def _parse_remote(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """Addresses that were given one by one, or separated by commas."""
    return tuple(url.strip() for text in value for url in text.split(","))


remote_option = click.option(
    "--remote",
    multiple=True,
    callback=_parse_remote,
    metavar="URL[,URL...]",
    help="Servers that run batches beside this one: a Triton server with what `rankine export triton-server` writes, "
    "another `rankine serve`, or any server of the Open Inference Protocol that serves the model's NAME.batch.",
)

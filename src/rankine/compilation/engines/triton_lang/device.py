"""Where kernels run: a GPU, or Triton-lang's interpreter in a GPU's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from rankine.compilation.engines.triton_lang.available import GPU, devices_here
from rankine.errors import EngineMissing

__all__ = ["Device", "device_named"]

_ONE_AT_A_TIME = threading.RLock()
"""The interpreter keeps the program that it is in in globals."""


@dataclass(frozen=True)
class Device:
    """A device of the engine.

    Attributes:
        name: one of :func:`rankine.compilation.engines.triton_lang.available.devices_here`.
        torch_device: where its memory is.
    """

    name: str
    torch_device: torch.device

    @property
    def is_gpu(self) -> bool:
        return self.name == GPU

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Held while kernels are launched: a GPU's streams need no turn, the interpreter does. There, what lies behind
        a mask is computed too, and would be warned of."""
        if self.is_gpu:
            yield
            return
        with _ONE_AT_A_TIME, np.errstate(all="ignore"):
            yield


def device_named(name: str) -> Device:
    """One of those that are here.

    Raises:
        EngineMissing: it is none of them.
    """
    if name not in (here := devices_here()):
        raise EngineMissing("has no such device here", where="triton-lang", got=name, allowed=", ".join(here) or "none")
    return Device(name, torch.device("cuda" if name == GPU else "cpu"))

"""Where kernels run: a GPU, or Triton-lang's interpreter in a GPU's place."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from rankine.compilation.engines.triton_lang.kernels.blocks import interpreted

__all__ = ["GPU", "INTERPRETER", "Device", "device_named", "devices_here"]

GPU, INTERPRETER = "cuda", "interpreter"
_ONE_AT_A_TIME = threading.RLock()
"""The interpreter keeps the program that it is in in globals."""


@dataclass(frozen=True)
class Device:
    """A device of the engine.

    Attributes:
        name: ``cuda`` or ``interpreter``.
        torch_device: where its memory is.
    """

    name: str
    torch_device: torch.device

    @property
    def is_gpu(self) -> bool:
        return self.name == GPU

    def turn(self) -> AbstractContextManager[object]:
        """Held while kernels are launched: a GPU's streams need no turn, the interpreter does."""
        return nullcontext() if self.is_gpu else _ONE_AT_A_TIME


def devices_here() -> tuple[str, ...]:
    """Names of the devices that can be opened in this process: the interpreter is chosen before it starts."""
    if interpreted():
        return (INTERPRETER,)
    return (GPU,) if torch.cuda.is_available() else ()


def device_named(name: str) -> Device:
    """One of :func:`devices_here`."""
    return Device(name, torch.device("cuda" if name == GPU else "cpu"))

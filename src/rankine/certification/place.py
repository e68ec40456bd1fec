"""Where scores are computed: the device of an engine, and the instruction set by which it chooses its kernels.

Sums are taken in another order elsewhere, and INT8 rounds otherwise now and then: evidence holds where it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankine.environment import instruction_set

__all__ = ["Place"]

_CHOOSES = "auto"


@dataclass(frozen=True, slots=True)
class Place:
    """A device and an instruction set; by default the CPU of this machine."""

    device: str = "cpu"
    instruction_set: str = field(default_factory=instruction_set)

    def __str__(self) -> str:
        return f"{self.device} ({self.instruction_set})"

    @property
    def pinned(self) -> bool:
        """Whether it says what computes. The device ``auto`` chooses among an engine's others at each start: evidence
        for it would hold for another device the next time, so none counts."""
        return self.device != _CHOOSES

    @property
    def file_part(self) -> str:
        """The place within a file's name: ``cpu.avx512_vnni``; of a device such as ``cuda:0`` without its colon."""
        return f"{self.device.replace(':', '-').replace('/', '-')}.{self.instruction_set}"

    def is_of(self, environment: Mapping[str, str | int | float]) -> bool:
        """Whether a quality certificate with this environment was taken here.

        One that does not say where, from before certificates did, was: it came with the artifact that is served.
        """
        if not self.pinned:
            return False
        if "instruction_set" not in environment:
            return self.device == "cpu"
        return (environment.get("device", "cpu"), environment["instruction_set"]) == (self.device, self.instruction_set)

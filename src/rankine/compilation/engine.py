"""The engine protocols: what an engine can do, how a graph is built for it, and how it runs a batch.

An engine is one file in ``engines/`` with one entry point and one capability record; it is imported when asked for.
Core code never branches on an engine's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from rankine.config import Frozen
from rankine.models.columns import Batch, Columns
from rankine.models.variant import Model, Numeric, Table

__all__ = [
    "STAND_INS",
    "Build",
    "Capabilities",
    "ConfigurableEngine",
    "Engine",
    "Model",
    "Numeric",
    "PartsEngine",
    "Runner",
    "RunsOn",
    "StandIn",
    "Table",
    "Target",
    "stand_in_told",
]

StandIn = Literal["emulator", "interpreter", "cpu", "simulated"]
"""What computes in a chip's place: its vendor's emulator, an interpreter, the same program on the CPU; or, where there
is no chip at all, only its time is simulated."""
RunsOn = Literal["chip", StandIn]
"""What a device's numbers were computed on. A time is one of the chip only where it ran on the chip."""
STAND_INS: Mapping[StandIn, str] = {
    "emulator": "the vendor's emulator",
    "interpreter": "interpreter, for checks only",
    "cpu": "the same program on the CPU",
    "simulated": "simulated",
}
"""In words, everywhere the same."""


def stand_in_told(device: str, runs_on: RunsOn) -> str:
    """A device, and what computes in its place."""
    if runs_on == "chip":
        return device
    told = STAND_INS[runs_on]
    return told if told.startswith(device) else f"{device} ({told})"


class Capabilities(Frozen):
    """What an installed engine can do.

    Attributes:
        name, version: of the engine's library.
        devices: names of the devices it can open here, e.g. ``("cpu",)``.
        device_hints: devices that it could open on another machine, or with more installed: what to do for them.
        numerics: numeric forms it runs.
        own_int8_form: True where its INT8 form is not the canonical QDQ graph, so that its scores need a quality
            certificate of their own.
        lookups: whether it reads the tables itself; otherwise the host does.
        static_buckets: whether it needs fixed row counts.
        needs_checkpoint: whether it runs the trained PyTorch module instead of the exported graph.
        oracle: whether it is what the others are compared with: exact, slow, never served from.
        own: whether it is Rankine's, so that it is no peer to be compared with.
        compiles_for: what it can build for, whether it is here or not, e.g. ``("aarch64 dotprod",)``; nothing: it
            compiles for what it finds when it opens a model.
        only_exported: those of ``compiles_for`` for which a build holds the device's form, and nothing that the
            device's own compiler made: that is done where the device is.
        on_request: whether it is built only where it is named, since a build takes seconds; then nothing is compiled
            for it, and no cost is measured on it, by default.
        stand_ins: those of ``devices`` that are not the chip itself, with what computes in its place; and those of
            ``compiles_for`` that are not here, and whose form the CPU runs. They are verified, and never timed.
        options: of a :class:`ConfigurableEngine`: what each is, and what is taken if it is not given, in words.
    """

    name: str
    version: str
    devices: tuple[str, ...] = ("cpu",)
    device_hints: Mapping[str, str] = Field(default_factory=dict)
    numerics: tuple[Numeric, ...] = ("fp32", "int8")
    own_int8_form: bool = False
    lookups: bool = False
    static_buckets: bool = False
    needs_checkpoint: bool = False
    oracle: bool = False
    own: bool = False
    compiles_for: tuple[str, ...] = ()
    only_exported: tuple[str, ...] = ()
    on_request: bool = False
    stand_ins: Mapping[str, StandIn] = Field(default_factory=dict)
    options: Mapping[str, str] = Field(default_factory=dict)

    @property
    def builds_told(self) -> str:
        """``compiles_for`` in words: which of it is exported, and compiled elsewhere."""
        return ", ".join(
            f"{name} (exported, not compiled)" if name in self.only_exported else name for name in self.compiles_for
        )

    @property
    def verifiable(self) -> tuple[str, ...]:
        """Devices whose form can be verified here: those that it opens, and those that the CPU stands in for."""
        return (*self.devices, *(name for name in self.stand_ins if name not in self.devices))

    def opened_on(self, device: str) -> str:
        """Where the form for one of ``verifiable`` is opened."""
        return device if device in self.devices else "cpu"

    def runs_on(self, device: str) -> RunsOn:
        """What the numbers of one of ``verifiable`` are computed on."""
        return self.stand_ins.get(device, "chip")

    def told(self, device: str) -> str:
        """A device, and what computes in its place."""
        return stand_in_told(device, self.runs_on(device))


class Target(Frozen):
    """What a graph is built for."""

    device: str = "cpu"
    instruction_set: str = "native"
    row_buckets: tuple[int, ...] = ()


class Build(Frozen):
    """What was built for one engine: ``variants/<variant>/builds/<engine>/build.json`` beside the engine's files.

    Attributes:
        max_logit_error, mean_logit_error: of what is opened, against the float64 reference.
        split: hash of the layout of the parts that were built beside the whole graph; None where none were.
    """

    schema_version: int = 1
    engine: str
    engine_version: str
    device: str
    numeric_form: str
    max_logit_error: float
    mean_logit_error: float
    verified_rows: int
    split: str | None = None


class Runner(Protocol):
    """A graph that is open on a device. Thread-safe; releases the GIL while it computes."""

    def run(self, batch: Batch, out: np.ndarray) -> None:
        """Write the logits of ``batch`` to ``out``, float32 ``(rows, tasks)``.

        Raises:
            BadRequest: an index or id is out of range; nothing outside a table was read.
            EngineError: the engine failed.
        """

    def complete(self, items: Columns) -> Columns:
        """Columns of a batch's items, and beside them what the runner would compute of an item in every call: nothing
        where it runs the whole graph."""

    def close(self) -> None:
        """Free what the runner holds; it is not used afterwards."""


class Engine(Protocol):
    """An engine, as its file's entry point returns it."""

    def capabilities(self) -> Capabilities:
        """What the installed engine can do here."""

    def build(self, model: Model, target: Target, folder: Path) -> None:
        """Write the engine's own form of ``model`` into the empty ``folder``; tables are not copied there.

        Raises:
            EngineError: names the operator or type that the engine does not support.
        """

    def open(self, model: Model, folder: Path, *, device: str = "cpu", threads: int = 1) -> Runner:
        """Open what :meth:`build` wrote for ``model``."""


@runtime_checkable
class PartsEngine(Engine, Protocol):
    """An engine that runs what is computed once a request and what is computed of every row in one call."""

    def open_parts(
        self, request: Model, request_folder: Path, candidate: Model, folder: Path, *, device: str, threads: int
    ) -> Runner:
        """Open what :meth:`Engine.build` wrote for two parts: the runner reads a batch's request features itself."""


@runtime_checkable
class ConfigurableEngine(Engine, Protocol):
    """An engine with options of its own, which are given when it is opened."""

    def configured(self, options: Mapping[str, str]) -> Engine:
        """The engine with these options.

        Raises:
            ConfigError: it has no such option, or the value is wrong.
        """

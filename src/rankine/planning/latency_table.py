"""What parts of a model cost on this machine: a record, and where it is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from rankine.artifact import read_record
from rankine.certification.ledger import state_folder
from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import installed
from rankine.compilation.operator_list import Kind
from rankine.config import Frozen
from rankine.environment import environment
from rankine.errors import ArtifactError
from rankine.models.variant import Numeric

__all__ = [
    "Check",
    "EngineTable",
    "LatencyTable",
    "LinearCost",
    "default_file",
    "machine_key",
    "read_table",
    "serving_engines",
    "write_table",
]

_MACHINE_FACTS = ("cpu", "instruction_sets", "cores", "machine")
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LinearCost(Frozen):
    """Milliseconds of one operator: a fixed part, and so much an element (or multiply-add)."""

    fixed_ms: Milliseconds
    element_ms: Milliseconds

    def of(self, elements: float) -> float:
        """For so many elements."""
        return self.fixed_ms + self.element_ms * elements


class EngineTable(Frozen):
    """One engine's costs.

    Attributes:
        layers: milliseconds of a linear layer by numeric form: ``[rows][width][columns]`` on the table's grid.
        call_ms: of a call itself, by number of rows on the grid.
        operators: of what is no linear layer.
        scale: by numeric form, how much longer layers take in whole graphs than in chains; 1 where it is not known.
    """

    version: str
    layers: Mapping[Numeric, tuple[tuple[tuple[Milliseconds, ...], ...], ...]]
    call_ms: tuple[Milliseconds, ...]
    operators: Mapping[Kind, LinearCost]
    scale: Mapping[Numeric, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}


class Check(Frozen):
    """A whole graph, predicted and measured."""

    graph: str
    engine: str
    numeric: Numeric
    rows: int
    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """``|predicted / measured - 1|``."""
        return abs(self.predicted_ms / self.measured_ms - 1)


class LatencyTable(Frozen):
    """Measured once on a machine, one thread.

    Attributes:
        machine: hash of the facts that make two machines alike.
        rows, widths: the grid on which linear layers were measured.
        lookup: of one feature's lookup, by the form of its table, an element being one float that it writes.
        error: median over ``checks`` of how far predictions of whole graphs are off; the engines' ``scale`` comes from
            the same graphs.
    """

    schema_version: Literal[1] = 1
    machine: str
    rows: tuple[int, ...]
    widths: tuple[int, ...]
    engines: Mapping[str, EngineTable] = Field(min_length=1)
    lookup: Mapping[str, LinearCost]
    checks: tuple[Check, ...]
    error: float | None
    environment: Mapping[str, str | int | float]
    created: AwareDatetime

    @property
    def digest(self) -> str:
        """Hash of the costs."""
        # Without defaults: a table of before there was a scale keeps its hash.
        decisive = self.model_dump(mode="json", include={"rows", "widths", "engines", "lookup"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:24]


def serving_engines() -> dict[str, str]:
    """Installed engines that run graphs, can be served from and are built by default, with their versions."""
    return {
        name: found.version
        for name, found in installed()
        if isinstance(found, Capabilities) and not (found.oracle or found.needs_checkpoint or found.on_request)
    }


def machine_key() -> str:
    """Hash of the facts of this machine that decide what things cost: processor, instruction sets, cores."""
    facts = environment()
    decisive = json.dumps([facts.get(name) for name in _MACHINE_FACTS])
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]


def default_file() -> Path:
    """Where this machine's table is kept.

    Raises:
        RuntimeError: the user has no home folder; ``RANKINE_STATE`` names another one.
    """
    return state_folder() / "latency" / f"{machine_key()}.json"


def read_table(path: Path) -> LatencyTable | None:
    """The table in a file, None where there is no file.

    Raises:
        ArtifactError: the file is no table.
    """
    if not path.exists():
        return None
    try:
        return read_record(path, LatencyTable)
    except ArtifactError as error:
        raise ArtifactError(
            f"is no latency table: {error.message}",
            where=str(path),
            got=error.got,
            hint="Name another file; where this one is of no use, remove it, and it is measured anew.",
        ) from None


def write_table(record: Frozen, path: Path) -> None:
    """Write a table, or what is kept beside it, as a whole: an interruption leaves the file that was there.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    new.replace(path)

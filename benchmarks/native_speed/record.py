"""What a run of `native_latency.py` leaves: one file, one part a section, each with where and when it was taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from rankine.config import Frozen

NOISE_LIMIT = 0.10
"""A run whose control (the first side again) is further from one than this is noise."""

Numeric = Literal["fp32", "int8", "int8-nncf"]
Ids = Literal["uniform", "zipf", "data"]
Cache = Literal["warm", "cold"]
Form = Literal["whole", "parts"]


class Side(Frozen):
    """What is timed.

    Attributes:
        numeric: ``int8`` is the canonical QDQ form, ``int8-nncf`` OpenVINO's own (NNCF).
        storage: of what is stored of an item, where the form is in parts.
        variant: of an artifact; empty for models with random weights.
    """

    engine: str
    numeric: Numeric
    form: Form = "whole"
    storage: str = ""
    variant: str = ""

    @property
    def label(self) -> str:
        """In words, e.g. ``native int8, parts in float16``."""
        form = f", parts in {self.storage}" if self.form == "parts" else ""
        return f"{self.variant} {self.engine} {self.numeric}{form}".strip()


NNCF = Side(engine="openvino", numeric="int8-nncf")
EAGER = Side(engine="eager", numeric="fp32")
BIG = "DCN-v2 (big)"
CHAIN = "MLP 448-1024-512-256"
FROM_NATIVE_CODE = "native_code_us: "
"""Begins the name of a fact: microseconds of a call of one row without Python, of the side that follows."""
MOVIELENS, CRITEO = "MovieLens-1M", "Criteo shape, 8 pair features"


class Timing(Frozen):
    """One side in one race; milliseconds of a call, median and quartiles.

    Attributes:
        ids: law by which items are drawn.
        cache: ``cold`` where other work ran between two calls.
        baseline: the race's first side.
        ratio: of the median to the baseline's; ``ratio_low`` and ``ratio_high`` are the quartiles over the turns.
        control: the first side timed a second time, in the same measure as ``ratio``; the same for all of a race.
        counts: whether it is the one that its engine is judged by, where an engine has several INT8 forms.
    """

    model: str
    side: Side
    rows: int = Field(ge=1)
    ids: Ids = "uniform"
    cache: Cache = "warm"
    turns: int
    median_ms: float
    low_ms: float
    high_ms: float
    baseline: Side
    ratio: float
    ratio_low: float
    ratio_high: float
    control: float
    counts: bool = True


class Scaling(Frozen):
    """Rows a second of threads that call at once, against one thread; quartiles of the ratio over the turns.

    Attributes:
        control: one thread against one thread, a second time.
    """

    model: str
    side: Side
    rows: int
    threads: int
    turns: int
    rows_per_s_one: float
    rows_per_s_all: float
    ratio: float
    ratio_low: float
    ratio_high: float
    control: float


class Failure(Frozen):
    """A side that could not be built or run, and the engine's own words."""

    model: str
    side: Side
    error: str


class Section(Frozen):
    """One section of a run.

    Attributes:
        facts: figures beside the timings, by model, e.g. how near the scores of NNCF's form are.
    """

    timings: tuple[Timing, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    failures: tuple[Failure, ...] = ()
    facts: Mapping[str, Mapping[str, float | int | str]] = Field(default_factory=dict)
    created: AwareDatetime
    environment: Mapping[str, Any]


class NativeLatency(Frozen):
    """All sections that were run, each the last time that it was."""

    schema_version: Literal[1] = 1
    kind: Literal["native-latency"] = "native-latency"
    sections: Mapping[str, Section] = Field(default_factory=dict)


def read_result(path: Path) -> NativeLatency:
    """The result file; one without sections where there is none."""
    if not path.exists():
        return NativeLatency()
    return NativeLatency.model_validate_json(path.read_text(encoding="utf-8"))


def write_section(path: Path, name: str, section: Section) -> None:
    """Put a section into the result file, in the place of its last run."""
    found = read_result(path)
    merged = found.model_copy(update={"sections": {**found.sections, name: section}})
    path.write_text(merged.model_dump_json(indent=1) + "\n", encoding="utf-8")

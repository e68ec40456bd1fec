"""The record that a demonstration run leaves behind, and that the report is made of: ``result.json``.

Parts that a run did not take are None or empty, never invented; the report says so in their place.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from rankine.config import Frozen
from rankine.observation.load.record import LoadResult
from rankine.observation.load.sweep import SweepResult
from rankine.observation.timings import Form
from rankine.planning.ladder import Ladder

__all__ = [
    "ROLES",
    "CertificateSummary",
    "DemoResult",
    "EngineTiming",
    "Epoch",
    "Measured",
    "MetricSummary",
    "Point",
    "Ratios",
    "Role",
    "SplitGain",
    "Training",
]

Role = Literal["baseline", "bare_engine", "best"]
ROLES: tuple[Role, ...] = ("baseline", "bare_engine", "best")


class Measured(Frozen):
    """One contestant: a variant on an engine, whole or in parts.

    ``engine_p50_ms`` is the engine alone, one thread, by number of rows (``"1"``, ``"64"``, ``"512"``); ``http_*`` are
    seen by a single client in a closed loop with 512 candidates; ``goodput_rps`` is the highest rate that held the SLO
    of ``ratios.throughput_slo_ms``. What was not measured, or did not hold, is None, and ``note`` says why.
    """

    auc: float | None = None
    engine: str
    variant: str
    form: Form = "whole"
    engine_p50_ms: dict[str, float]
    http_p50_ms: float | None = None
    http_p99_ms: float | None = None
    goodput_rps: float | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    note: str | None = None


class Ratios(Frozen):
    """Best over baseline: ``latency_512`` of the engines' p50 at 512 rows (lower is better), ``throughput`` of goodput.

    ``note`` says what a reader must know, e.g. that the SLO had to be relaxed for both.
    """

    latency_512: float | None = Field(default=None, gt=0)
    throughput: float | None = Field(default=None, gt=0)
    throughput_slo_ms: float = Field(default=50.0, gt=0)
    note: str | None = None


class MetricSummary(BaseModel):
    """The test of one metric, as a certificate has it; ``margin`` and ``verdict`` are None where it decides nothing."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    baseline: float
    variant: float
    delta: float
    ci_low: float
    ci_high: float
    margin: float | None = None
    verdict: Literal["pass", "fail", "inconclusive"] | None = None


class CertificateSummary(BaseModel):
    """The quality certificate of ``best``; what a certificate has beyond these fields is kept and shown too.

    ``delta`` is variant minus baseline of ``metric``, ``ci_low`` and ``ci_high`` its one-sided 95 % bounds. ``metrics``
    are all that were tested; ``harmed`` names the parts of the rows that lose more than the margin.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    metric: str
    delta: float
    ci_low: float
    ci_high: float | None = None
    margin: float = Field(gt=0)
    verdict: Literal["pass", "fail", "inconclusive"]
    rows: int
    reason: str | None = None
    metrics: tuple[MetricSummary, ...] = ()
    harmed: tuple[str, ...] = ()


class EngineTiming(Frozen):
    """One cell of the engine table: median and quartiles of one call, or the reason why there is none."""

    variant: str
    engine: str
    form: Form = "whole"
    rows: int = Field(gt=0)
    p50_ms: float | None = None
    p25_ms: float | None = None
    p75_ms: float | None = None
    error: str | None = None


class Point(Frozen):
    """One variant on one engine in the plane of latency and quality, in the form in which it is served."""

    variant: str
    engine: str
    form: Form = "whole"
    auc: float
    p50_ms_512: float = Field(gt=0)
    certified: bool


class SplitGain(Frozen):
    """What the split alone gives: ``best`` in parts against the whole graph of the same variant on the same engine.

    Attributes:
        whole_p50_ms, parts_p50_ms: of the engine, one thread, by number of rows, in the same run.
        ratios: parts over whole, by number of rows; lower is better.
        macs_per_row: share of the multiply-adds of a row that is left for the row.
        stored_bytes: what is stored of all items of the catalog beside their features.
    """

    whole_p50_ms: dict[str, float]
    parts_p50_ms: dict[str, float]
    ratios: dict[str, float]
    macs_per_row: float = Field(ge=0)
    stored_bytes: int = Field(ge=0)


class Epoch(BaseModel):
    """One epoch of training."""

    model_config = ConfigDict(frozen=True, extra="allow")

    epoch: int
    train_loss: float | None = None
    validation_auc: float | None = None


class Training(BaseModel):
    """How the baseline was trained."""

    model_config = ConfigDict(frozen=True, extra="allow")

    history: tuple[Epoch, ...] = ()


class DemoResult(Frozen):
    """Everything that one demonstration run found out; ``model_dump_json`` of it is ``result.json``."""

    schema_version: Literal[1] = 1
    dataset: str
    baseline: Measured
    best: Measured
    bare_engine: Measured | None = None
    ratios: Ratios
    certificate: CertificateSummary | None = None
    split: SplitGain | None = None
    engines: tuple[EngineTiming, ...] = ()
    points: tuple[Point, ...] = ()
    http: dict[Role, LoadResult] = Field(default_factory=dict)
    sweeps: dict[Role, SweepResult] = Field(default_factory=dict)
    training: Training | None = None
    ladder: Ladder | None = None
    controls: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    environment: dict[str, str | int | float] = Field(default_factory=dict)
    seed: int | None = None
    duration_s: float | None = None
    created: AwareDatetime | None = None

    def contestants(self) -> dict[Role, Measured]:
        """Those that took part, in the order in which they are shown."""
        found: dict[Role, Measured | None] = {
            "baseline": self.baseline,
            "bare_engine": self.bare_engine,
            "best": self.best,
        }
        return {role: measured for role, measured in found.items() if measured is not None}

"""What a search asks of others, what it is told to do, and what it keeps of every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, model_validator

from rankine.compression.context import CostModel
from rankine.compression.outcome import PassReport
from rankine.compression.recipe import Pass
from rankine.config import Frozen
from rankine.models.network import Network, Size

__all__ = [
    "FULL",
    "SKETCH",
    "Evaluation",
    "Fidelity",
    "Judge",
    "Judged",
    "SearchCost",
    "SearchSettings",
    "Target",
    "named",
]

Share = Annotated[float, Field(gt=0, le=1)]


class Judged(Frozen):
    """A network against the baseline on the same validation rows; of several tasks the one that loses most.

    Attributes:
        loss: what was lost, in AUC: the largest over the metrics that a certificate judges, each scaled by how its
            margin relates to AUC's. Below zero for a gain.
        auc_change: signed, positive is better.
        auc_se: standard error of the paired change, by the clusters of the rows.
        entropy_change: relative, of the normalized entropy, positive is better; None where a task is no logit.
    """

    loss: float
    auc_change: float
    auc_se: float = Field(ge=0)
    entropy_change: float | None = None


class Judge(Protocol):
    """Judges networks on validation rows."""

    def judge(self, network: Network) -> Judged:
        """The network against the baseline."""


class SearchCost(CostModel, Protocol):
    """A cost model that says what it was measured with, so that results that depend on it can be told apart."""

    @property
    def digest(self) -> str:
        """Hash of all that its predictions depend on."""


class Target(Frozen):
    """How small a variant should be, as shares of the baseline: latency at 512 rows (in PyTorch eager), multiply-adds,
    bytes. Without any, the search minds the latency."""

    latency: Share | None = None
    macs: Share | None = None
    bytes: Share | None = None

    @property
    def given(self) -> dict[str, float]:
        """The shares that were asked for, by name."""
        return {name: share for name, share in self.model_dump().items() if share is not None}


class Fidelity(Frozen):
    """How much is spent on an evaluation.

    Attributes:
        rows: share of the training rows.
        least_rows: so many are taken in any case, as far as there are: from a few steps nothing can be told.
        epochs: most of each training; None for as many as the recipe says.
    """

    rows: Share = 1.0
    least_rows: int = Field(default=50_000, ge=1)
    epochs: int | None = Field(default=None, ge=1)

    @property
    def name(self) -> str:
        """Such as ``0.2x4``, or ``full``; it tells fidelities apart."""
        if self == FULL:
            return "full"
        least = "" if self.least_rows == FULL.least_rows else f">{self.least_rows}"
        return f"{self.rows:g}{least}x{self.epochs or 'all'}"

    def count(self, rows: int) -> int:
        """How many of so many training rows are taken."""
        return min(rows, max(self.least_rows, round(self.rows * rows)))


FULL = Fidelity()
SKETCH = "sketch"
"""Name of the fidelity without any training: only sizes are known."""


class SearchSettings(Frozen):
    """How a search goes on.

    Attributes:
        fidelities: increasing; the full one follows.
        keep: share of the candidates that goes on from each of them.
        finalists: at least so many forms are trained in full, and at most so many variants are handed on.
        hopeless: a candidate this much AUC behind the best of its kind at the same fidelity goes no further, however
            cheap it is.
        largest_loss: variants that lose more on validation are not handed on; where a larger margin was asked for, that
            counts.
        threads: of a training; None for all cores. A search that is to repeat exactly needs the same number.
    """

    schema_version: Literal[1] = 1
    fidelities: tuple[Fidelity, ...] = (Fidelity(rows=0.2, epochs=4), Fidelity(rows=0.5, epochs=6))
    keep: Share = 0.34
    finalists: int = Field(default=6, ge=1)
    hopeless: float = Field(default=0.02, gt=0)
    largest_loss: float = Field(default=0.005, gt=0)
    threads: int | None = Field(default=None, ge=1)


class Evaluation(Frozen):
    """One candidate at one fidelity: the record that a work folder keeps.

    Attributes:
        key: hash of candidate, fidelity, seed, baseline, data and cost model.
        size: None where the candidate was refused.
        latency_ms: predicted at 512 rows; a form without a quantization is costed as the INT8 form it will become.
        judged: None for a sketch.
        refused: why a pass cannot work on this model.
    """

    schema_version: Literal[1] = 1
    key: str
    passes: tuple[Pass, ...]
    fidelity: str
    size: Size | None = None
    latency_ms: float | None = None
    judged: Judged | None = None
    refused: str | None = None
    reports: tuple[PassReport, ...] = ()
    seconds: float = Field(ge=0)

    @model_validator(mode="after")
    def _measured_or_refused(self) -> Self:
        if (self.size is None) != (self.refused is not None) or (self.latency_ms is None) != (self.size is None):
            raise ValueError("an evaluation has sizes and a latency, or the reason why it has none")
        return self

    @property
    def loss(self) -> float:
        """What was lost on validation rows; zero while that is not known."""
        return 0.0 if self.judged is None else self.judged.loss

    @property
    def text(self) -> str:
        """The candidate in a few words."""
        return ", ".join(report.text for report in self.reports) or named(self.passes)


def named(passes: Sequence[Pass]) -> str:
    """Passes as a phrase, such as ``low_rank + prune``."""
    return " + ".join(step.type for step in passes) or "the baseline as it is"

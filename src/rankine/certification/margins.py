"""How much of each metric an operator is ready to lose."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field

from rankine.config import Frozen
from rankine.errors import UsageError

__all__ = ["SCALED", "Margins", "MetricName", "check_margin"]

MetricName = Literal["auc", "normalized_entropy", "calibration", "group_auc", "ndcg_at_10"]

SCALED: tuple[MetricName, ...] = ("auc", "normalized_entropy", "group_auc", "ndcg_at_10")
"""The metrics whose default margin is a multiple of the AUC's; calibration has a fixed one."""


class Margins(Frozen):
    """The largest loss that is accepted, by metric; None: the metric is reported and decides nothing.

    Args:
        auc: a difference of AUC.
        normalized_entropy: a relative difference, ``(NE_variant - NE_baseline) / NE_baseline``.
        calibration: growth of ``|log calibration ratio|``: 0.01 is about one percent more bias of the mean prediction.
        group_auc: a difference of the mean AUC within a group (a user).
        ndcg_at_10: a difference of the mean NDCG@10 of the groups.
    """

    auc: float = Field(default=0.001, gt=0, le=1)
    normalized_entropy: float | None = Field(default=0.003, gt=0)
    calibration: float | None = Field(default=0.01, gt=0)
    group_auc: float | None = Field(default=0.003, gt=0)
    ndcg_at_10: float | None = Field(default=0.003, gt=0)

    @classmethod
    def of(cls, auc: float) -> Self:
        """The default margins for a margin of AUC: three times it for the other metrics, 0.01 for calibration.

        Raises:
            UsageError: ``auc`` is not in (0, 1].
        """
        check_margin(auc)
        return cls(auc=auc, normalized_entropy=3 * auc, group_auc=3 * auc, ndcg_at_10=3 * auc)

    def of_metric(self, name: MetricName) -> float | None:
        """The margin of one metric."""
        margin: float | None = getattr(self, name)
        return margin

    @property
    def judged(self) -> dict[MetricName, float]:
        """The margins of the metrics that decide."""
        margins = {name: self.of_metric(name) for name in get_args(MetricName)}
        return {name: margin for name, margin in margins.items() if margin is not None}


def check_margin(margin: float) -> None:
    """Raise :class:`~rankine.errors.UsageError` unless ``margin`` is a difference of AUC in (0, 1]."""
    if not 0 < margin <= 1:
        raise UsageError(
            "must be a difference of AUC above zero",
            where="margin",
            got=margin,
            allowed="0 < margin <= 1",
            hint="0.001 is a tenth of an AUC point; no finite sample can show a margin of zero.",
        )

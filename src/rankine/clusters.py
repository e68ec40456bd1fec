"""Variances of estimates from rows that depend on each other: one way, or crossed two ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankine.errors import DataError, UsageError
from rankine.metrics import Floats

__all__ = ["Codes", "Variance", "clustered_variance", "encode_clusters", "two_way", "variance_of_sums"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Variance:
    """A variance, the degrees of freedom with which it is known, how it was taken, and the clusters by dimension."""

    variance: float
    freedom: float
    method: str
    clusters: tuple[int, ...]


def clustered_variance(influence: Floats, clusters: Sequence[ArrayLike], row_variance: float) -> Variance:
    """Variance of an estimate that each row moves by its ``influence``; they sum to zero.

    One way: from the sums within clusters, see :func:`variance_of_sums`. Two ways: ``V_1 + V_2 - V_12`` (Cameron,
    Gelbach & Miller 2011), or the larger of ``V_1`` and ``V_2`` where that is not positive.

    Args:
        influence: shape ``(rows,)``.
        clusters: up to two arrays of ids (integers or strings), each of shape ``(rows,)``.
        row_variance: the variance where there are no clusters.

    Raises:
        DataError: ids of another shape or kind, or fewer than two clusters in a dimension.
        UsageError: more than two cluster dimensions.
    """
    rows = len(influence)
    if len(clusters) > 2:
        raise UsageError("too many cluster dimensions", where="clusters", got=len(clusters), allowed="0, 1 or 2")
    if not clusters:
        # A few rows can dominate as a few clusters do: a variant may differ in hardly any.
        return Variance(row_variance, variance_of_sums(influence, np.zeros(rows))[1], "row-wise", ())
    encoded = [encode_clusters(ids, rows, f"clusters[{place}]") for place, ids in enumerate(clusters)]
    counts = tuple(count for _, count in encoded)
    one_way = [_of_codes(influence, codes, count) for codes, count in encoded]
    if len(encoded) == 1:
        return Variance(*one_way[0], "clustered", counts)
    (first, _), (second, second_count) = encoded
    distinct, both = np.unique(first * second_count + second, return_inverse=True)
    combined = two_way(one_way[0], one_way[1], _of_codes(influence, both, len(distinct))[0])
    if combined is None:
        return Variance(*max(one_way), "larger of two one-way clustered", counts)
    return Variance(*combined, "two-way clustered", counts)


def variance_of_sums(sums: Floats, shares: Floats) -> tuple[float, float]:
    """Variance of the total of independent ``sums``, shape ``(clusters,)``, and its degrees of freedom.

    The jackknife's (CV3; MacKinnon, Nielsen & Webb 2023): a cluster with a share ``h`` of the rows has pulled the
    estimate towards itself, so its sum counts ``1 / (1 - h)`` times. The degrees of freedom are Satterthwaite's, from
    the fourth powers of the sums: a variance that a few clusters dominate is itself known badly.

    Args:
        shares: of the rows, by cluster, shape ``(clusters,)``.
    """
    count = len(sums)
    squares = np.square(sums / np.maximum(1.0 - shares, 1e-3))
    total = float(squares.sum())
    noise = float(np.square(squares).sum()) - total**2 / count
    most = max(count - 1.0, 1.0)
    freedom = most if noise <= 0 else min(max(2 * total**2 / noise, 1.0), most)
    return (count - 1) / count * total, freedom


def two_way(first: tuple[float, float], second: tuple[float, float], both: float) -> tuple[float, float] | None:
    """``V_1 + V_2 - V_12`` and its degrees of freedom (Satterthwaite), from those of each; None if not positive."""
    variance = first[0] + second[0] - both
    if variance <= 0:
        return None
    noise = first[0] ** 2 / first[1] + second[0] ** 2 / second[1]
    return variance, max(variance**2 / noise, 1.0)


def encode_clusters(ids: ArrayLike, rows: int, where: str) -> tuple[Codes, int]:
    """Cluster ids of any sortable kind as codes from 0, shape ``(rows,)``, and the number of clusters.

    Args:
        where: what an error calls the ids.

    Raises:
        DataError: another shape, ids of different kinds, NaN, or fewer than two clusters.
    """
    values = np.asarray(ids)
    if values.shape != (rows,):
        raise DataError("must have one id a row", where=where, got=f"shape {values.shape}", allowed=f"({rows},)")
    try:
        distinct, codes = np.unique(values, return_inverse=True)
    except TypeError:
        raise DataError("ids must be of one kind", where=where, hint="Integers or strings, none missing.") from None
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("an id is missing", where=where, got="NaN", allowed="integers or strings")
    if len(distinct) < 2:
        raise DataError("a variance needs two clusters", where=where, got=f"{len(distinct)} cluster")
    return codes, len(distinct)


def _of_codes(influence: Floats, codes: Codes, count: int) -> tuple[float, float]:
    sums = np.asarray(np.bincount(codes, weights=influence, minlength=count), dtype=np.float64)
    return variance_of_sums(sums, np.bincount(codes, minlength=count) / len(influence))

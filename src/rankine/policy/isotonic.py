"""The closest non-decreasing sequence: pool adjacent violators (Ayer et al. 1955)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["non_decreasing"]


def non_decreasing(values: Sequence[float]) -> list[float]:
    """``values`` where they do not fall; where they do, the mean of the neighbors that contradict each other.

    The least-squares fit under the constraint; same length.
    """
    means: list[float] = []
    counts: list[int] = []
    for value in values:
        mean, count = value, 1
        while means and means[-1] > mean:
            before, members = means.pop(), counts.pop()
            mean = (before * members + mean * count) / (members + count)
            count += members
        means.append(mean)
        counts.append(count)
    return [mean for mean, count in zip(means, counts, strict=True) for _ in range(count)]

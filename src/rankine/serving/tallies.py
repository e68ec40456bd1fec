"""Counters and histograms for what happens with every request: a few additions each, told to Prometheus when it asks.

Those of ``prometheus_client`` take several microseconds a request together, a tenth of what ranking a small one takes.
Names, labels and text are the same, by its own families.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["Counts", "Distribution"]

Key = tuple[str, ...]


class Counts(Collector):
    """A counter. Thread-safe.

    Args:
        labels: names; values are given with what is counted.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._lock = threading.Lock()
        self._counts: dict[Key, float] = {} if labels else {(): 0.0}
        registry.register(self)

    def add(self, *key: str, count: float = 1.0) -> None:
        """Count; ``key``: a value for each label."""
        with self._lock:
            self._counts[key] = self._counts.get(key, 0.0) + count

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            counts = list(self._counts.items())
        for key, count in counts:
            family.add_metric(key, count)
        yield family


class _Seen:
    """What was observed under one key: how often by bucket, the last without a bound, and the sum."""

    __slots__ = ("buckets", "sum")

    def __init__(self, bounds: int) -> None:
        self.buckets, self.sum = [0] * (bounds + 1), 0.0


class Distribution(Collector):
    """A histogram. Thread-safe.

    Args:
        bounds: of its buckets, increasing; each holds what is as small as it or smaller.
        labels: as of :class:`Counts`.
    """

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = tuple(map(float, bounds))
        self._told = [*map(floatToGoString, self._bounds), "+Inf"]
        self._lock = threading.Lock()
        self._seen: dict[Key, _Seen] = {} if labels else {(): _Seen(len(self._bounds))}
        registry.register(self)

    def observe(self, value: float, *key: str) -> None:
        """Count a value; ``key``: a value for each label."""
        with self._lock:
            seen = self._seen.get(key)
            if seen is None:
                seen = self._seen[key] = _Seen(len(self._bounds))
            seen.buckets[bisect_left(self._bounds, value)] += 1
            seen.sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            found = [(key, list(accumulate(seen.buckets)), seen.sum) for key, seen in self._seen.items()]
        for key, buckets, total in found:
            family.add_metric(key, list(zip(self._told, map(float, buckets), strict=True)), total)
        yield family

"""Counters and histograms of the hot path, against the text of prometheus_client's own."""

from __future__ import annotations

import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from rankine.serving.tallies import Counts, Distribution

BOUNDS = (0.0005, 0.5, 1, 16)


def text_of(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


def test_counts_tell_what_a_prometheus_counter_tells() -> None:
    own, theirs = CollectorRegistry(), CollectorRegistry()
    plain, labelled = (
        Counts("plain", "Without labels", registry=own),
        Counts("kinds", "By kind", ("kind", "of"), registry=own),
    )
    plain_there = Counter("plain", "Without labels", registry=theirs)
    labelled_there = Counter("kinds", "By kind", ("kind", "of"), registry=theirs)
    assert text_of(own) == text_of(theirs)  # before anything is counted
    for kind, count in (("a", 1.0), ('b"\n', 2.5), ("a", 3.0)):
        labelled.add(kind, "x", count=count)
        labelled_there.labels(kind, "x").inc(count)
    plain.add()
    plain_there.inc()
    assert text_of(own) == text_of(theirs)


@pytest.mark.parametrize("labels", [(), ("protocol",)])
def test_distributions_tell_what_a_prometheus_histogram_tells(labels: tuple[str, ...]) -> None:
    own, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Distribution("seconds", "How long", BOUNDS, labels, registry=own)
    other = Histogram("seconds", "How long", labels, buckets=BOUNDS, registry=theirs)
    assert text_of(own) == text_of(theirs)
    for value in (0.0005, 0.00051, 0.0, 16, 17.5, 1, -1):
        key = ("rank",) if labels else ()
        mine.observe(value, *key)
        (other.labels(*key) if labels else other).observe(value)
    assert text_of(own) == text_of(theirs)


def test_nothing_is_lost_when_several_threads_count() -> None:
    registry = CollectorRegistry()
    counts, seen = (
        Counts("kinds", "By kind", ("kind",), registry=registry),
        Distribution("s", "s", (1,), registry=registry),
    )

    def count() -> None:
        for _ in range(20_000):
            counts.add("a")
            seen.observe(1.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("kinds_total", {"kind": "a"}) == 80_000
    assert registry.get_sample_value("s_sum") == 80_000
    assert registry.get_sample_value("s_bucket", {"le": "1.0"}) == 80_000

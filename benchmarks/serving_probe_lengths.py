"""How long a probe must be: by how much what it finds differs from one trace of arrivals to the next, simulated.

$ python benchmarks/serving_probe_lengths.py

One processor, first in first out, MLPerf's numbers of candidates, 50 ms: for traces of each length the highest rate at
which at most one in a hundred is late, of two servers of which one spends more on each request. A minute on one core.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from serving.drive import WARMUP_S
from serving.files import write_record
from serving.oracle import Service
from serving.probe_lengths import ProbeLength, ProbeLengths
from serving.queries import POOL, Mix
from serving.traffic import Kind, due_times, intensity

from rankine.observation.load.candidates import parse_candidates, stratified

OUT = Path(__file__).resolve().parent / "results" / "serving-probe-lengths.json"
LENGTHS_S = (3.0, 6.0, 10.0, 20.0)
TRAFFIC: tuple[Kind, ...] = ("exponential", "bursts")
SERVERS = {
    "big": (Service(0.0, 6.0e-6, 1.2e-3), Service(0.0, 6.0e-6, 2.0e-3)),
    "small": (Service(0.0, 6.0e-8, 0.5e-3), Service(0.0, 6.0e-8, 0.8e-3)),
}
"""Seconds a row and a request, near what the proof has found."""
SEARCH_STEPS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=40)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    found = tuple(
        measure(traffic, like, probe_s, given.traces)
        for like in SERVERS
        for traffic in TRAFFIC
        for probe_s in LENGTHS_S
    )
    write_record(given.out, ProbeLengths(traces=given.traces, found=found, created=datetime.now(UTC)))


def measure(traffic: Kind, like: str, probe_s: float, traces: int) -> ProbeLength:
    """Both servers under so many traces."""
    first, second = (
        np.array([limit_rps(traffic, probe_s, seed, service) for seed in range(traces)]) for service in SERVERS[like]
    )
    ratio = first / second
    print(
        f"{like}, {traffic}, {probe_s:g} s: {first.std() / first.mean():.1%}, {ratio.std() / ratio.mean():.1%}",
        flush=True,
    )
    return ProbeLength(
        traffic=traffic,
        like=like,
        probe_s=probe_s,
        rate_rps=float(np.median(first)),
        rate_spread=float(first.std() / first.mean()),
        ratio_spread=float(ratio.std() / ratio.mean()),
    )


def limit_rps(traffic: Kind, probe_s: float, seed: int, service: Service) -> float:
    """The highest rate that holds under one trace, by bisection."""
    mix = Mix()
    sizes = stratified(parse_candidates(mix.candidates), POOL, seed=0).astype(np.float64)
    shape = intensity(traffic, WARMUP_S + probe_s, seed=seed)
    low_rps, high_rps = 1.0, 1.2 / float(service.of(sizes).mean())
    for _ in range(SEARCH_STEPS):
        middle_rps = (low_rps * high_rps) ** 0.5
        due_s = due_times(middle_rps, shape, seed=seed)
        rows = sizes[np.random.default_rng(seed + 1).integers(POOL, size=len(due_s))]
        late = waited_s(due_s, service.of(rows))[due_s >= WARMUP_S] > mix.deadline_ms / 1e3
        low_rps, high_rps = (middle_rps, high_rps) if late.mean() <= 0.01 else (low_rps, middle_rps)
    return low_rps


def waited_s(due_s: np.ndarray, spent_s: np.ndarray) -> np.ndarray:
    """From when requests ``(n,)`` were due to their ends, first in first out (Lindley 1952)."""
    ends_s = np.cumsum(spent_s)
    idle_until_s = np.maximum.accumulate(due_s - np.concatenate([[0.0], ends_s[:-1]]))
    return idle_until_s + ends_s - due_s


if __name__ == "__main__":
    main()

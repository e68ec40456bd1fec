"""A full and a minimal result record, made by hand: what the report's tests render."""

from __future__ import annotations

from typing import Any

import numpy as np

from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, SweepResult, sweep
from rankine.observation.load.answer import Answer
from rankine.observation.load.generator import Run
from rankine.observation.load.record import summarize

URL = "http://127.0.0.1:8000"
MACHINE: dict[str, str | int | float] = {
    "cpu": "Example Processor 9000",
    "cores": 2,
    "python": "3.11.7",
    "rankine": "0.1.0",
}
FORMS = {"parts": 0.7, "whole": 1.0}
"""By form, its share of the whole graph's time."""
WHOLE = {("baseline", "pytorch"), ("baseline-int8", "openvino")}
"""What is served whole: the baseline and the bare engine."""
SERVICE_MS = {"baseline": 28.0, "bare_engine": 8.6, "best": 4.9}


def closed(service_ms: float, seed: int) -> LoadResult:
    """A closed loop of one client, latencies of gamma noise over a fixed service time."""
    latencies_ms = service_ms + np.random.default_rng(seed).gamma(1.3, 0.05 * service_ms, 800)
    answers = [Answer(1.0, 1.0, 1.0 + ms / 1e3, "200", True, 512) for ms in latencies_ms.tolist()]
    config = LoadConfig(url=URL, duration_s=10, slo_ms=50, warmup_s=1)
    return summarize(config, Run(answers, len(answers), 10.0, 0.06), MACHINE)


class Queue:
    """Latency that grows as the offered rate nears the service's capacity."""

    def __init__(self, service_ms: float) -> None:
        self.service_ms = service_ms

    def estimate(self) -> float:
        return 1e3 / self.service_ms

    def offer(self, rate_rps: float, duration_s: float) -> LoadResult:
        use = min(rate_rps * self.service_ms / 1e3, 0.98)
        mean_ms = self.service_ms * 0.5 * use / (1 - use)
        requests = max(1, round(rate_rps * duration_s))
        waits_ms = np.random.default_rng(1).exponential(max(mean_ms, 0.05), requests)
        answers = [Answer(1.0, 1.0, 1.0 + (self.service_ms + ms) / 1e3, "200", True, 512) for ms in waits_ms.tolist()]
        config = LoadConfig(url=URL, rate_rps=rate_rps, slo_ms=50, warmup_s=1)
        return summarize(config, Run(answers, requests, duration_s, 0.1), MACHINE)

    def drain(self) -> None:
        """There is never work left."""


def swept(service_ms: float) -> SweepResult:
    return sweep(SweepConfig(load=LoadConfig(url=URL, slo_ms=50)), target=Queue(service_ms))


def epoch(number: int) -> dict[str, float]:
    auc = 0.82 - 0.05 / number - 0.0004 * number
    return {"epoch": number, "train_loss": 0.6 / number**0.15, "validation_auc": auc}


def minimal_result() -> dict[str, Any]:
    """Only what every record has."""
    return {
        "schema_version": 1,
        "dataset": "synthetic",
        "baseline": {"engine": "pytorch", "variant": "baseline", "engine_p50_ms": {"512": 27.0}},
        "best": {"engine": "openvino", "variant": "student-int8", "engine_p50_ms": {"512": 4.6}},
        "ratios": {},
    }


def full_result() -> dict[str, Any]:
    """Every part, as JSON would hold it; names hold characters that HTML must escape."""
    sweeps = {role: swept(service_ms) for role, service_ms in SERVICE_MS.items()}
    engines = {"pytorch": 1.0, "onnxruntime": 0.72, "openvino": 0.66}
    variants = {
        "baseline": (27.0, 0.8190),
        "baseline-int8": (11.0, 0.8187),
        "student-fp32": (12.0, 0.8192),
        "student-int8": (10.0, 0.8188),
    }
    timings: list[dict[str, Any]] = []
    points = []
    for variant, (cost_ms, auc) in variants.items():
        for engine, factor in engines.items():
            if engine == "pytorch" and variant != "baseline":
                continue
            for form, left in FORMS.items():
                if engine == "pytorch" and form == "parts":
                    continue
                combination = {"variant": variant, "engine": engine, "form": form}
                for rows, share in ((1, 0.045), (64, 0.2), (512, 1.0)):
                    p50 = cost_ms * factor * share * left
                    timings.append(
                        combination | {"rows": rows, "p50_ms": p50, "p25_ms": p50 * 0.97, "p75_ms": p50 * 1.06}
                    )
                if form == "parts" or (variant, engine) in WHOLE:
                    certified = variant == "student-int8"
                    points.append(
                        combination | {"auc": auc, "p50_ms_512": cost_ms * factor * left, "certified": certified}
                    )
    timings.append(
        {"variant": "baseline", "engine": "tvm", "rows": 512, "error": "not installed: pip install 'rankine[tvm]'"}
    )
    measured = {
        "baseline": ("pytorch", "baseline", 0.8190, 27.0, 25_400_000),
        "bare_engine": ("openvino", "baseline-int8", 0.8187, 7.26, 7_900_000),
        "best": ("openvino", "student-int8", 0.8188, 4.62, 2_100_000),
    }
    contestants = {
        role: {
            "auc": auc,
            "engine": engine,
            "variant": variant,
            "form": "parts" if role == "best" else "whole",
            "engine_p50_ms": {"1": p50 * 0.045, "64": p50 * 0.2, "512": p50},
            "http_p50_ms": SERVICE_MS[role] + 0.9,
            "http_p99_ms": SERVICE_MS[role] * 1.2,
            "goodput_rps": sweeps[role].goodput_rps,  # type: ignore[index]
            "size_bytes": size,
        }
        for role, (engine, variant, auc, p50, size) in measured.items()
    }
    goodput = {role: found.goodput_rps or 0.0 for role, found in sweeps.items()}
    return {
        **minimal_result(),
        "dataset": "ml-1m <script>alert(1)</script> & co",
        **contestants,
        "ratios": {"latency_512": 4.62 / 27.0, "throughput": goodput["best"] / goodput["baseline"]},
        "certificate": {
            "metric": "auc", "delta": -0.00021, "ci_low": -0.00058, "ci_high": 0.00016, "margin": 0.001,
            "verdict": "pass", "rows": 100_021, "reason": "With 95 % confidence AUC has a change of at least -0.00058.",
            "method": "two-way clustered", "clusters": {"user": 6040, "item": 3500}, "power": 0.99,
            "metrics": [
                {"name": "auc", "baseline": 0.79, "variant": 0.78979, "delta": -0.00021, "ci_low": -0.00058,
                 "ci_high": 0.00016, "margin": 0.001, "verdict": "pass"},
                {"name": "ndcg_at_10", "baseline": 0.71, "variant": 0.7104, "delta": 0.0004, "ci_low": -0.0009,
                 "ci_high": 0.0017},
            ],
            "harmed": ["zip=94110"],
        },
        "split": {
            "whole_p50_ms": {"1": 0.297, "64": 1.32, "512": 6.6},
            "parts_p50_ms": {"1": 0.208, "64": 0.924, "512": 4.62},
            "ratios": {"1": 0.7, "64": 0.7, "512": 0.7}, "macs_per_row": 0.62, "stored_bytes": 4_800_000,
        },
        "engines": timings,
        "points": points,
        "http": {role: closed(ms, seed).model_dump(mode="json") for seed, (role, ms) in enumerate(SERVICE_MS.items())},
        "sweeps": {role: found.model_dump(mode="json") for role, found in sweeps.items()},
        "training": {"history": [epoch(number) for number in range(1, 10)]},
        "controls": {"clock drift": "2.1 % between first and last control"},
        "notes": ["Candidates are drawn from the catalog with replacement."],
        "environment": MACHINE,
        "seed": 7,
        "duration_s": 262.0,
        "created": "2026-01-02T03:04:05Z",
    }  # fmt: skip

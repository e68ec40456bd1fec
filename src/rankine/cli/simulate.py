"""``rankine simulate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from rankine.cli.option_errors import naming_options
from rankine.cli.options import json_option

if TYPE_CHECKING:
    from rankine.planning.simulate import Simulated
    from rankine.planning.simulate_setup import SimulatedDevice

EPILOG = """\b
Examples:
  rankine simulate --profile 1:0.6,64:1.9,512:10.8,2048:41.5
  rankine simulate --profile 1:0.6,512:10.8 --rate 300 --arrivals bursts --short-share 0.3
  rankine simulate --profile 1:0.1,512:3.1 --profile 1:0.3,512:9.5   # a device pool
"""


_FLAGS = {
    "rate_rps": "--rate",
    "duration_s": "--duration",
    "p99_ms": "--slo-ms",
    "profile": "--profile",
    "noise": "--noise",
}


@click.command("simulate", epilog=EPILOG)
@click.option(
    "--profile",
    "profiles",
    required=True,
    multiple=True,
    help="Milliseconds of a batch by rows: ROWS:MS,ROWS:MS... Of a device pool, once for each device.",
)
@click.option("--rate", type=float, help="Requests per second [default: the highest that holds the SLO].")
@click.option(
    "--arrivals",
    type=click.Choice(["exponential", "bursts", "day"]),
    default="exponential",
    show_default=True,
    help="When requests come.",
)
@click.option("--candidates", default="mlperf", show_default=True, help="N, lognormal, or mlperf.")
@click.option("--duration", type=float, default=60.0, show_default=True, help="Simulated seconds.")
@click.option("--deadline-ms", type=float, default=50.0, show_default=True, help="Of each request.")
@click.option("--short-share", type=float, default=0.0, show_default=True, help="Share with 0.6 of that deadline.")
@click.option("--slo-ms", type=float, default=50.0, show_default=True, help="Bound of p99; at most 1 % may miss.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Of each device.")
@click.option("--noise", type=float, default=0.05, show_default=True, help="Relative spread of a batch's time.")
@click.option("--oracle", is_flag=True, help="A scheduler that knows service times, for comparison.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def command(
    profiles: tuple[str, ...],
    rate: float | None,
    arrivals: str,
    candidates: str,
    duration: float,
    deadline_ms: float,
    short_share: float,
    slo_ms: float,
    workers: int,
    noise: float,
    oracle: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Play traffic against the scheduler in simulated time: latency, goodput, highest sustainable rate.

    Exits with 4 when the SLO is not met: without --rate at no rate, else at the rate given.
    """
    from rankine.cli.render import print_json, print_lines
    from rankine.config import parse
    from rankine.errors import SloNotMet
    from rankine.planning.simulate import Slo, simulate, sustainable_rate
    from rankine.planning.simulate_setup import Setup
    from rankine.planning.simulate_traffic import Traffic

    values: Mapping[str, object] = {
        "rate_rps": 50.0 if rate is None else rate,
        "arrivals": arrivals,
        "candidates": _candidates(candidates),
        "duration_s": duration,
        "deadline_ms": deadline_ms,
        "short_deadline_ms": 0.6 * deadline_ms,
        "short_share": short_share,
        "seed": seed,
    }
    with naming_options(Traffic, _FLAGS):
        traffic = parse(Traffic, values, source="simulate")
        slo = parse(Slo, {"p99_ms": slo_ms}, source="simulate")
        setup = Setup(_devices(profiles, workers, noise), seed=seed)
        if rate is None:
            found = sustainable_rate(traffic, setup, slo, oracle=oracle)[1]
        else:
            found = simulate(traffic, setup, oracle=oracle)
    if as_json:
        print_json(found)
    else:
        print_lines(_lines(found, searched=rate is None))
    if not found.meets(slo):
        raise SloNotMet("the simulated server does not meet the objective", where="--slo-ms", got=f"{slo_ms:g} ms")


def _candidates(text: str) -> str | int:
    from rankine.errors import UsageError

    if text in ("mlperf", "lognormal"):
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError("not a number of candidates", where="--candidates", got=text, allowed="N, lognormal, mlperf")


def _devices(profiles: Sequence[str], workers: int, noise: float) -> tuple[SimulatedDevice, ...]:
    """Workers of all devices, those of the fastest first: a server plans by that one's times.

    Raises:
        UsageError: as :func:`_points`.
    """
    from rankine.planning.simulate_setup import SimulatedDevice
    from rankine.policy.cost import CostModel

    curves = [_points(profile) for profile in profiles]
    most_rows = max(rows for rows, _ in curves[0])
    curves.sort(key=lambda points: CostModel(points).mean_s(most_rows))
    return tuple(
        SimulatedDevice(f"device {number}, worker {at}", points, noise=noise)
        for number, points in enumerate(curves)
        for at in range(workers)
    )


def _points(profile: str) -> tuple[tuple[int, float], ...]:
    """``ROWS:MS,...`` as pairs (rows, seconds).

    Raises:
        UsageError: it is none, or more rows take less time. (What was measured may fall by chance and is smoothed; what
            a person types is a mistake.)
    """
    from rankine.errors import UsageError

    try:
        pairs = [point.split(":") for point in profile.split(",")]
        points = tuple((int(rows), float(milliseconds) / 1000) for rows, milliseconds in pairs)
    except ValueError:
        raise UsageError("not a profile", where="--profile", got=profile, allowed="ROWS:MS,ROWS:MS...") from None
    for (rows, seconds), (more_rows, less_s) in pairwise(sorted(points)):
        if less_s < seconds:
            got = f"{rows}:{1000 * seconds:g} and {more_rows}:{1000 * less_s:g}"
            raise UsageError("more rows cannot take less time", where="--profile", got=got)
    return points


def _lines(found: Simulated, *, searched: bool) -> list[tuple[str, str]]:
    latency = "nothing answered"
    if found.p50_ms is not None and found.p99_ms is not None:
        latency = f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms"
    return [
        ("highest sustainable rate" if searched else "offered", f"{found.offered_rps:.1f} requests/s"),
        ("goodput", f"{found.goodput_rps:.1f} requests/s"),
        ("latency", latency),
        (
            "missed",
            f"{found.missed:.2%}: refused {found.refused:.2%}, expired {found.expired:.2%}, late {found.late:.2%}",
        ),
        ("utilization", f"{found.utilization:.0%}, {found.rows_per_batch:.0f} rows a batch"),
    ]

"""``rankine bench load``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.option_errors import naming_options
from rankine.cli.options import cores_option, json_option, result_option

EPILOG = """\b
Examples:
  rankine bench load http://127.0.0.1:8080 --rate 200 --duration 30 --candidates lognormal:200:0.8
  rankine bench load http://127.0.0.1:8080 --sweep --slo-ms 50
  rankine bench load http://127.0.0.1:8080 --rate 500 --deadline-ms 50 --fail-on-miss 1
  rankine bench load http://127.0.0.1:8080 --clients 1 --timings
"""


_FLAGS = {
    "url": "URL",
    "rate_rps": "--rate",
    "duration_s": "--duration",
    "warmup_s": "--warmup",
    "requests_file": "--requests",
}


@click.command("load", epilog=EPILOG)
@click.argument("url")
@click.option("--model", help="Name of the model [default: the server's default].")
@click.option("--rate", type=float, help="Open loop: requests per second, exponential gaps.")
@click.option(
    "--clients", type=click.IntRange(min=1), default=1, show_default=True, help="Closed loop, without --rate."
)
@click.option("--sweep", "sweeping", is_flag=True, help="Find the highest rate with p99 under --slo-ms.")
@click.option("--slo-ms", type=float, help="Bound of p99, and of goodput [default with --sweep: 50].")
@click.option("--deadline-ms", type=float, help="Deadline that is sent with each request.")
@click.option(
    "--fail-on-miss",
    "most_missed_percent",
    type=click.FloatRange(min=0, max=100),
    metavar="PERCENT",
    help="Exit with 4 when more of the requests were refused, failed, wrong or late.",
)
@click.option("--duration", type=float, default=10.0, show_default=True, help="Seconds measured.")
@click.option("--warmup", type=float, default=1.0, show_default=True, help="Seconds before, not measured.")
@click.option("--candidates", default="512", show_default=True, help="N, lognormal:MEDIAN:SIGMA[:MAX], or mlperf.")
@click.option("--top-k", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--requests", type=click.Path(path_type=Path), help="Bodies to send (JSON lines) [default: examples].")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@cores_option("Cores of the generator, e.g. 1 [default: all].")
@click.option("--timings", is_flag=True, help="Ask the server for its own timings too.")
@result_option
@json_option
def command(
    url: str,
    model: str | None,
    rate: float | None,
    clients: int,
    sweeping: bool,
    slo_ms: float | None,
    deadline_ms: float | None,
    most_missed_percent: float | None,
    duration: float,
    warmup: float,
    candidates: str,
    top_k: int,
    requests: Path | None,
    seed: int,
    cores: tuple[int, ...] | None,
    timings: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Put a server under load; latency counts from the time at which a request was due.

    Exits with 4 when the SLO is not met (with --sweep at no rate, else at the rate or by the clients given), or when
    more than --fail-on-miss missed; else with 0, however many missed.
    """
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.config import parse
    from rankine.errors import SloNotMet, UsageError
    from rankine.observation.load import LoadConfig, LoadResult, SweepConfig, run_load, sweep

    if sweeping and rate is not None:
        raise UsageError("a sweep chooses its rates itself", where="--rate", hint="Leave --rate or --sweep out.")
    if sweeping and most_missed_percent is not None:
        hint = "Leave --fail-on-miss out: a rate holds only where at most 1 % miss."
        raise UsageError("a sweep has its own bound", where="--fail-on-miss", hint=hint)
    values = {
        "url": url,
        "model": model,
        "rate_rps": rate,
        "clients": clients,
        "duration_s": duration,
        "warmup_s": warmup,
        "candidates": candidates,
        "top_k": top_k,
        "deadline_ms": deadline_ms,
        "slo_ms": slo_ms if slo_ms is not None or not sweeping else 50.0,
        "requests_file": requests,
        "seed": seed,
        "cores": cores,
        "timings": timings,
    }
    with naming_options(LoadConfig, _FLAGS), watch() as emit:
        load = parse(LoadConfig, values, source="bench load")
        found = sweep(SweepConfig(load=load), emit) if sweeping else run_load(load, emit)
    if out:
        out.write_text(found.model_dump_json(indent=2), encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        print_lines(found.table())
    if (reason := found.missed_slo) is not None:
        raise SloNotMet(reason, where=url, allowed=f"p99 <= {load.slo_ms:g} ms, at most 1 % misses")
    if isinstance(found, LoadResult):
        _judge_misses(url, found.miss_share, most_missed_percent, bounded=slo_ms is not None)


def _judge_misses(url: str, miss_share: float, most_percent: float | None, *, bounded: bool) -> None:
    """Raise where more missed than the user allows; where nothing was said about it, tell."""
    from rankine.errors import SloNotMet
    from rankine.observation.load.config import MAX_MISS_SHARE

    missed = f"{miss_share:.2%} of the requests missed"
    if most_percent is not None and 100 * miss_share > most_percent:
        raise SloNotMet(missed, where=url, allowed=f"at most {most_percent:g} %, by --fail-on-miss")
    if most_percent is None and not bounded and miss_share > MAX_MISS_SHARE:
        warning = click.style("warning", fg="yellow", bold=True)
        click.echo(f"{warning}: {missed}; the exit status is 0 without --slo-ms or --fail-on-miss", err=True)

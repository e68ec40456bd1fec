"""``rankine bench load``."""

from __future__ import annotations

from pathlib import Path

import click

from rankine.cli.options import cores_option, json_option, result_option

EPILOG = """\b
Examples:
  rankine bench load http://127.0.0.1:8080 --rate 200 --duration 30 --candidates lognormal:200:0.8
  rankine bench load http://127.0.0.1:8080 --sweep --slo-ms 50
  rankine bench load http://127.0.0.1:8080 --clients 1 --timings
"""


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

    Exits with 4 when the SLO is not met: with --sweep at no rate, else at the rate or by the clients given.
    """
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.config import parse
    from rankine.errors import SloNotMet, UsageError
    from rankine.observation.load import LoadConfig, SweepConfig, run_load, sweep

    if sweeping and rate is not None:
        raise UsageError("a sweep chooses its rates itself", where="--rate", hint="Leave --rate or --sweep out.")
    load = parse(
        LoadConfig,
        {
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
        },
        source="bench load",
    )
    with watch() as emit:
        found = sweep(SweepConfig(load=load), emit) if sweeping else run_load(load, emit)
    if out:
        out.write_text(found.model_dump_json(indent=2), encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        print_lines(found.table())
    if (reason := found.missed_slo) is not None:
        raise SloNotMet(reason, where=url, allowed=f"p99 <= {load.slo_ms:g} ms, at most 1 % misses")

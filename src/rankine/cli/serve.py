"""``rankine serve``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from rankine.cli.device_pool import device_pool_option, remote_option
from rankine.cli.option_errors import naming_options
from rankine.cli.options import artifact_argument, cores_option, json_option
from rankine.events import Event, Note

EPILOG = """\b
Examples:
  rankine serve runs/small --port 8080
  curl 'http://127.0.0.1:8080/v1/models'
"""

_FILE = click.Path(path_type=Path)


@click.command("serve", epilog=EPILOG)
@artifact_argument
@click.option("--catalog", type=click.Path(path_type=Path), help="Catalog [default: ARTIFACT.catalog].")
@click.option(
    "--catalog-refresh-s",
    type=click.FloatRange(0, 86_400),
    default=1.0,
    show_default=True,
    help="How often to look for a newer generation of the catalog; 0 never.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), help="Serve gRPC too; 0 takes a free one [default: no gRPC]."
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain (PEM): serve TLS, over HTTP and gRPC.")
@click.option("--tls-key", type=_FILE, help="Its key (PEM, not encrypted).")
@click.option("--tls-client-ca", type=_FILE, help="Clients must show a certificate that one of these (PEM) signed.")
@click.option("--api-keys", type=_FILE, help="Keys that may ask, one a line; read again when the file changes.")
@click.option("--policy", type=_FILE, help="Rules about tenants (TOML): quotas, shares; read again when it changes.")
@click.option(
    "--truncate-by-prior",
    type=click.IntRange(min=1),
    metavar="MIN_CANDIDATES",
    help="Under pressure, score only the best candidates by their prior scores, at least so many.",
)
@click.option("--variant", help="Variant to serve [default: the certified plan's].")
@click.option("--engine", help="Engine to run it on [default: the variant's certified one].")
@click.option(
    "--floor",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="Under load, step down the artifact's ladder to variants certified within this loss of AUC.",
)
@click.option("--device", help="Device of the engine [default: the one that its build was verified on].")
@click.option("--split/--no-split", default=True, show_default=True, help="Serve in parts what was built in parts.")
@click.option("--allow-uncertified", is_flag=True, help="Serve without a passed certificate.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of one engine call."
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Engine calls at one time.")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Server processes, which share the port, the cores and the load.",
)
@click.option(
    "--start-limit-s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=300.0,
    show_default=True,
    help="With --processes: longest that one step of a start may take before the process is replaced.",
)
@device_pool_option
@remote_option
@click.option(
    "--remote-workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="With --remote: batches that each server is sent at the same time.",
)
@click.option(
    "--remote-timeout-ms",
    type=click.FloatRange(min=0, min_open=True, max=600_000),
    default=1000.0,
    show_default=True,
    help="With --remote: longest that a server may take to answer.",
)
@click.option("--isolate", is_flag=True, help="Run the engine in worker processes: one that dies or hangs is replaced.")
@click.option(
    "--spare-workers",
    type=click.IntRange(0, 16),
    default=1,
    show_default=True,
    help="With --isolate: processes that wait to replace one.",
)
@click.option(
    "--worker-hang-s",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=1.0,
    show_default=True,
    help="With --isolate: least time without an answer after which a process is replaced.",
)
@cores_option("Cores to run on, e.g. 0,1 [default: all].")
@click.option("--max-candidates", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--max-connections", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option(
    "--max-read-s",
    type=click.FloatRange(0, 3600, min_open=True),
    default=60.0,
    show_default=True,
    help="Longest time to send a request.",
)
@click.option("--max-body-bytes", type=click.IntRange(min=1024), default=16 << 20, show_default=True)
@click.option("--max-decompressed-bytes", type=click.IntRange(min=1024), default=16 << 20, show_default=True)
@click.option("--max-batch-rows", type=click.IntRange(min=1), default=2048, show_default=True)
@click.option(
    "--max-batch-ms",
    type=click.FloatRange(0, 60_000, min_open=True),
    default=20.0,
    show_default=True,
    help="Longest that a batch may take.",
)
@click.option("--max-queue-rows", type=click.IntRange(min=1), default=65_536, show_default=True)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0, 3_600_000, min_open=True),
    default=10_000.0,
    show_default=True,
    help="Longest wait of requests without deadline.",
)
@click.option(
    "--default-deadline-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Deadline of requests that bring none.",
)
@click.option(
    "--unknown-item",
    type=click.Choice(["error", "row"]),
    default="error",
    show_default=True,
    help="Ids that the catalog does not have: refuse, or score as out of vocabulary.",
)
@click.option("--drain-s", type=click.FloatRange(0, 600), default=0.5, show_default=True)
@click.option(
    "--target-utilization",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=0.7,
    show_default=True,
    help="How busy workers should be: what rankine_desired_replicas asks for.",
)
@click.option("--log-requests", is_flag=True, help="One JSON line on standard error a request.")
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Serve an artifact over HTTP, and gRPC if asked for: rank endpoint, Open Inference Protocol v2, metrics, health.

    Stops on SIGTERM or Ctrl-C after every accepted request is answered. Logs are JSON lines on standard error.
    """
    from rankine.config import parse
    from rankine.serving.config import ServeConfig
    from rankine.serving.server import serve

    with naming_options(ServeConfig):
        serve(parse(ServeConfig, options, source="serve"), partial(_say, as_json))


def _say(as_json: bool, event: Event) -> None:
    """The one line on standard output: what is served and where. Everything else is in the JSON log."""
    if isinstance(event, Note) and "url" in event.figures:
        click.echo(json.dumps(dict(event.figures)) if as_json else event.text)

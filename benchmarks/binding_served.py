"""What the split gives behind a server: the fastest certified variant of a family, in parts against whole.

$ python benchmarks/binding_served.py --work /tmp/compression --only dcn_v2 --data-root ../shared/data

Takes what `compression.py` certified, compiles it and starts servers of it on one core: on each engine one in parts
and one with ``--no-split``. All get the same requests, a dozen at a time, 512 candidates of one user each, and tell how
long the engine ran (lookups, the request's part and gathering included). The fastest in parts is held against the
fastest whole. One result file a family in benchmarks/results/binding-served/.

A minute on one core; needs the data that the family was trained on.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from compression_sizes import SIZES
from families_quality import FAMILIES, arguments_for, open_data
from pydantic import AwareDatetime
from script import open_left, run_script

from rankine.artifact import Artifact
from rankine.catalog import write_catalog
from rankine.certification.plan import PLAN_FILE, Plan
from rankine.compilation.compile import compile_artifact
from rankine.config import Frozen
from rankine.demo.servers import running_server
from rankine.environment import environment
from rankine.planning.optimize import verification_rows

RESULTS = Path(__file__).resolve().parent / "results" / "binding-served"
ENGINES = ("native", "onnxruntime", "openvino")
CANDIDATES, BODIES = 512, 64
ROUNDS, CALLS, WARM_UP = 60, 20, 5
"""A server gets its requests of a round one after the other, as in production: the first ones find its code and data
out of the caches, which the others have used meanwhile, and do not count."""


class Served(Frozen):
    """One server: milliseconds of the engine and of the whole request, as quartiles."""

    form: str
    engine: str
    engine_ms: tuple[float, float, float]
    request_ms: tuple[float, float, float]


class BindingServed(Frozen):
    """All servers of a variant.

    Attributes:
        ratio: of the medians of the engine's time, the fastest in parts to the fastest whole.
    """

    schema_version: int = 1
    kind: str = "binding-served"
    family: str
    variant: str
    candidates: int = CANDIDATES
    requests: int = ROUNDS * CALLS
    servers: tuple[Served, ...]
    ratio: float
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    arguments = arguments_for(__doc__, SIZES, usual=["dcn_v2"], made_by="compression.py").parse_args()
    for family in arguments.only:
        dataset = open_data(FAMILIES[family], arguments.data_root)
        compressed = open_left(arguments.work / family / "compressed", "compression.py")
        variant = compressed.read_json(PLAN_FILE, Plan).variant
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            rows = verification_rows(compressed, dataset)
            artifact = compile_artifact(compressed, engines=ENGINES, verify_batch=rows, out=place / "artifact")
            catalog = place / "catalog"
            write_catalog(catalog, dataset.schema, dataset.item_ids, dataset.items)
            servers = measure(artifact, variant, catalog)
        fastest = {form: min(one.engine_ms[1] for one in servers if one.form == form) for form in ("parts", "whole")}
        result = BindingServed(
            family=family,
            variant=variant,
            servers=servers,
            ratio=fastest["parts"] / fastest["whole"],
            created=datetime.now(UTC),
            environment=environment(),
        )
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{family}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(family, variant, f"{result.ratio:.3f}", *servers, sep="\n  ", flush=True)


def measure(artifact: Artifact, variant: str, catalog: Path) -> tuple[Served, ...]:
    cores = sorted(os.sched_getaffinity(0))
    forms = [(form, engine) for engine in ENGINES for form in ("parts", "whole")]
    with ExitStack() as stack:
        urls = [
            stack.enter_context(
                running_server(
                    artifact.path,
                    variant=variant,
                    engine=engine,
                    catalog=catalog,
                    cores=cores[:1],
                    certified=False,
                    split=form == "parts",
                )
            )
            for form, engine in forms
        ]
        connections = [http.client.HTTPConnection(urlsplit(url).netloc) for url in urls]
        bodies = _bodies(connections[0])
        times = np.empty((len(forms), ROUNDS, CALLS, 2))
        for turn in range(ROUNDS):
            for number, connection in enumerate(connections):
                for call in range(-WARM_UP, CALLS):
                    found = _rank(connection, bodies[(turn * CALLS + call) % BODIES])
                    if call >= 0:
                        times[number, turn, call] = found
    return tuple(
        Served(form=form, engine=engine, engine_ms=_quartiles(own[..., 0]), request_ms=_quartiles(own[..., 1]))
        for (form, engine), own in zip(forms, times, strict=True)
    )


def _bodies(connection: http.client.HTTPConnection) -> Sequence[bytes]:
    model = _get(connection, "/v1/models")["models"][0]["name"]
    examples = _get(connection, f"/v1/models/{model}/examples?count={BODIES}&candidates={CANDIDATES}")["examples"]
    return [json.dumps({**example, "top_k": 10, "timings": True}).encode() for example in examples]


def _get(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    return json.load(connection.getresponse())


def _rank(connection: http.client.HTTPConnection, body: bytes) -> tuple[float, float]:
    """Milliseconds of the engine, and of the request as its client sees it."""
    begin = perf_counter()
    connection.request("POST", "/v1/rank", body, {"content-type": "application/json"})
    reply = connection.getresponse()
    answer = json.load(reply)
    if reply.status != 200:
        raise SystemExit(f"{reply.status}: {answer}")
    return answer["timings"]["run_ms"], (perf_counter() - begin) * 1e3


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


if __name__ == "__main__":
    run_script(main)

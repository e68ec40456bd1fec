"""The page at ``/``: what runs here, and a request to try, for whoever opens the URL in a browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from rankine import __version__
from rankine.certification import QualityCertificate, summary
from rankine.serving.model import ServedModel
from rankine.serving.rungs import ServedRung

__all__ = ["HTML", "home_page"]

HTML = b"text/html; charset=utf-8"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{name} - Rankine</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:3rem auto;padding:0 1rem}}
pre{{background:#f4f4f4;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}}
td{{padding:.1rem 1.5rem .1rem 0}}</style></head>
<body><h1>{name}</h1><table>{rows}</table>
<h2>Try it</h2><pre>{curl}</pre>
<h2>Paths</h2><ul>
<li><code>POST /v1/models/{name}/rank</code> rank candidates (also <code>/v1/rank</code>)</li>
<li><a href="/v1/models/{name}">/v1/models/{name}</a> features, certificate</li>
<li><a href="/v1/models/{name}/examples?count=2&amp;candidates=5">/v1/models/{name}/examples</a>
 valid random requests</li>
<li><a href="/v2/models/{name}">/v2/models/{name}</a> Open Inference Protocol: flat rows
 (<a href="/v2/models/{name}.rank">{name}.rank</a>: one request)</li>
<li><a href="/metrics">/metrics</a>, <a href="/v2/health/ready">/v2/health/ready</a></li>
</ul><p>Rankine {version}</p></body></html>
"""


def home_page(model: ServedModel, example: dict[str, Any], host: str) -> bytes:
    """The page; ``example`` is a rank body, ``host`` what the client called the server."""
    choice = model.choice
    quality = choice.quality
    tasks = [task.name for task in model.schema.tasks]
    certificate = "none" if quality is None else _in_words(quality, tasks)
    facts = {
        "variant": choice.variant,
        "engine": choice.engine,
        "certificate": certificate if choice.certified else f"{certificate} (served uncertified)",
        **({"tasks": ", ".join(tasks), "ranked by": model.schema.ranking or tasks[0]} if len(tasks) > 1 else {}),
        **({} if len(model.rungs) == 1 else {"under load": _rungs_in_words(model.rungs)}),
        "items in the catalog": f"{0 if model.items is None else len(model.items):,}",
        "artifact": model.artifact.digest[:16],
    }
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in facts.items())
    # In single quotes for the shell; a quote inside is closed, escaped, and opened again.
    body = json.dumps(example | {"top_k": 3}, ensure_ascii=False).replace("'", "'\\''")
    curl = (
        f"curl -s http://{host}/v1/models/{model.name}/rank \\\n  -H 'content-type: application/json' \\\n  -d '{body}'"
    )
    page = _PAGE.format(name=escape(model.name), rows=rows, curl=escape(curl), version=__version__)
    return page.encode()


def _rungs_in_words(rungs: Sequence[ServedRung]) -> str:
    """The rungs to step down to."""
    return ", ".join(f"{rung.variant} on {rung.engine}, certified at {rung.margin:g}" for rung in rungs[1:])


def _in_words(quality: QualityCertificate, tasks: list[str]) -> str:
    """The certificate; with several tasks it is the worst task's, so it says whose."""
    return f"{summary(quality)} (of the worst task, {quality.task})" if len(tasks) > 1 else summary(quality)

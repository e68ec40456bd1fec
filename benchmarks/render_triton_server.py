"""Render what Triton server adds to the engine's time into docs/reference/triton-server.md.

$ python benchmarks/render_triton_server.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from script import no_arguments

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "triton-server.json"
PAGE = ROOT / "docs" / "reference" / "triton-server.md"
BAR_MS, BAR_ROWS = 1.5, 512
WAYS = {
    "triton_http": "Triton server, HTTP",
    "triton_grpc": "Triton server, gRPC",
    "serve_http": "`rankine serve`, HTTP",
    "serve_grpc": "`rankine serve`, gRPC",
}
HEAD = """\
# What Triton server adds to the engine's time

Rendered by `python benchmarks/render_triton_server.py` from the result of `benchmarks/triton_server.py`. Do not edit
it.

{model} on the engine `{engine}`, as `rankine export triton-server` writes it, in the real Triton server (of
nvidia-pytriton {triton}), asked by `tritonclient` for one user and N candidates (`{name}`). The engine and both servers
share one core, the client has the other; one call after the other, of each in turn, {calls} of each. Milliseconds of
`client.infer` on inputs that are made once, median and quartiles; *added* is the median over the engine's.
"""


def render(result: Mapping[str, Any] | None) -> str:
    """The page."""
    if result is None:
        return HEAD.splitlines()[0] + "\n\nNo result is committed yet.\n"
    measured = result["measured"]
    lines = [HEAD.format(**{**result, "name": "NAME.rank", "calls": measured[0]["calls"]})]
    lines += ["| candidates | the engine alone |" + "".join(f" {title} | added |" for title in WAYS.values())]
    lines += ["| ---: | ---: |" + " ---: | ---: |" * len(WAYS)]
    for one in measured:
        engine = one["ms"]["engine"]
        cells = "".join(f" {_cell(one['ms'][way])} | {one['ms'][way]['p50'] - engine['p50']:.2f} |" for way in WAYS)
        lines.append(f"| {one['rows']} | {_cell(engine)} |{cells}")
    lines += ["", _verdict(measured), "", _apart(measured), ""]
    return "\n".join(lines)


def _cell(found: Mapping[str, float]) -> str:
    return f"{found['p50']:.2f} ({found['p25']:.2f}-{found['p75']:.2f})"


def _verdict(measured: list[dict[str, Any]]) -> str:
    [one] = [one for one in measured if one["rows"] == BAR_ROWS]
    http, grpc = (one["ms"][way]["p50"] - one["ms"]["engine"]["p50"] for way in ("triton_http", "triton_grpc"))
    held = sum(added <= BAR_MS for added in (http, grpc))
    told = ("missed", "held over one of the two", "held")[held]
    added = f"Triton server adds {http:.2f} ms over HTTP and {grpc:.2f} ms over gRPC"
    return f"The bar is {BAR_MS} ms over the engine at {BAR_ROWS} candidates. {added}: it is {told}."


def _apart(measured: list[dict[str, Any]]) -> str:
    most = max(one["scores_apart"] for one in measured)
    return (
        f"Largest difference of a score among the four: {most:.1e}."
        if most
        else "The scores of all four are equal, bit by bit."
    )


def read_result() -> Mapping[str, Any] | None:
    """The committed result, if there is one."""
    if not RESULT.is_file():
        return None
    found: Mapping[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    no_arguments(__doc__)
    PAGE.write_text(render(read_result()), encoding="utf-8")

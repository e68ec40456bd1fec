"""``rankine demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankine.cli.options import json_option, margin_option

if TYPE_CHECKING:
    from rankine.observation.result import DemoResult, Measured, SplitGain

EPILOG = """\b
Examples:
  rankine demo
  rankine demo --data ml-1m --out runs/movielens-demo
"""


@click.command("demo", epilog=EPILOG)
@click.option("--data", default="synthetic", show_default=True, help="'synthetic', or a MovieLens-1M folder.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write [default: rankine-demo, or the next free]."
)
@margin_option
@click.option("--quick", is_flag=True, help="A tiny model and short measurements: shows the way, not the figures.")
@json_option
def command(data: str, out: Path | None, margin: float, quick: bool, as_json: bool) -> None:
    """Everything in one go: train, compress, certify, serve, load, report.

    The baseline in PyTorch and the compressed artifact are served behind the same front and put under the same load.
    Under 5 minutes on synthetic data; about 30 on MovieLens-1M, where most of it is the training of the baseline, which
    is kept for the next time.

    Exits with 3 when no compressed variant passed its certificate.
    """
    from rankine.cli.inspect import require_pass
    from rankine.cli.render import print_json, print_lines, watch
    from rankine.demo.config import demo_config
    from rankine.demo.run import run_demo

    folder = out or _free_folder(Path("rankine-demo"))
    with watch() as emit:
        result = run_demo(demo_config(data, margin=margin, quick=quick), folder, emit)
    if as_json:
        print_json(result)
    else:
        _show(result)
        print_lines([("result", str(folder / "result.json")), ("report", str(folder / "report.html"))])
        print_lines([("serve it", f"rankine serve {folder / 'artifact'}")])
    from rankine.artifact import Artifact

    require_pass(Artifact.open(folder / "artifact"))


def _free_folder(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, … that is free: an earlier demonstration is not lost."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _show(result: DemoResult) -> None:
    from rankine.cli.render import print_lines, print_table

    contestants = result.contestants()
    rows: list[tuple[str, ...]] = [
        ("runs", *(f"{m.variant} on {m.engine}{', in parts' * (m.form == 'parts')}" for m in contestants.values())),
        ("test AUC", *(_number(m.auc, ".5f") for m in contestants.values())),
    ]
    for count in ("1", "64", "512"):
        label = f"engine p50, {count} row{'' if count == '1' else 's'}, ms"
        rows.append((label, *(_number(m.engine_p50_ms.get(count), ".3f") for m in contestants.values())))
    rows += [
        ("HTTP p50, 512 candidates, ms", *(_number(m.http_p50_ms, ".2f") for m in contestants.values())),
        ("HTTP p99, 512 candidates, ms", *(_number(m.http_p99_ms, ".2f") for m in contestants.values())),
        (
            f"requests/s with p99 <= {result.ratios.throughput_slo_ms:g} ms",
            *(_number(m.goodput_rps, ".0f") for m in contestants.values()),
        ),
        ("size, MB", *(_megabytes(m) for m in contestants.values())),
    ]
    print_table(("", *(role.replace("_", " ") for role in contestants)), rows, title=f"Rankine on {result.dataset}")
    ratios, certificate = result.ratios, result.certificate
    lines = [("latency, 512 rows", f"{_number(ratios.latency_512, '.3f')} of the baseline's")]
    lines.append(("throughput", f"{_number(ratios.throughput, '.1f')} times the baseline's"))
    if result.split:
        lines.append(("split alone", _split(result.split)))
    if certificate:
        low = f"lower bound {certificate.ci_low:+.5f}, margin {certificate.margin:g}, {certificate.rows:,} rows"
        lines.append(("certificate", f"{certificate.verdict}: AUC {certificate.delta:+.5f}, {low}"))
        others = [f"{test.name.replace('_', ' ')} {test.verdict or 'not judged'}" for test in certificate.metrics[1:]]
        lines += [("other metrics", ", ".join(others))] if others else []
        lines += [("harmed", name) for name in certificate.harmed]
    print_lines(lines + [("note", note) for note in ([ratios.note] if ratios.note else []) + list(result.notes)])


def _split(split: SplitGain) -> str:
    told = ", ".join(
        f"{ratio:.3f} at {rows} row{'' if rows == '1' else 's'} "
        f"({split.whole_p50_ms[rows]:.3f} -> {split.parts_p50_ms[rows]:.3f} ms)"
        for rows, ratio in split.ratios.items()
    )
    return f"of the whole graph's latency {told}"


def _number(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)


def _megabytes(measured: Measured) -> str:
    return "not measured" if measured.size_bytes is None else f"{measured.size_bytes / 1e6:.2f}"

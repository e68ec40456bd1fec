"""Renders a result record as one HTML file: no script, no network, readable in light, dark and on paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankine.config import parse
from rankine.errors import UsageError
from rankine.observation.report import view
from rankine.observation.report.labels import LABELS
from rankine.observation.result import DemoResult
from rankine.planning.ladder import Ladder

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_ladder", "render_report"]


def render_report(result: Mapping[str, Any] | DemoResult, out: Path) -> Path:
    """Write the report of ``result`` (a record, or the contents of a ``result.json``) to ``out``, and return ``out``.

    Parts that the record lacks are shown as "not measured".

    Raises:
        ConfigError: ``result`` is no result record.
        UsageError: matplotlib or Jinja2 is not installed, or ``out`` cannot be written.
    """
    record = result if isinstance(result, DemoResult) else parse(DemoResult, result, source="result")
    return _write(_render(record), out)


def render_ladder(ladder: Ladder, name: str, out: Path) -> Path:
    """Write the page of an artifact's ladder to ``out``, and return ``out``.

    Raises:
        UsageError: matplotlib or Jinja2 is not installed, or ``out`` cannot be written.
    """
    templates = _templates()
    return _write(templates.get_template("ladder.html.j2").render(name=name, **_of_ladder(ladder)), out)


def _write(page: str, out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError("cannot be written", where=str(out), got=error.strerror or str(error)) from None
    return out


def _of_ladder(ladder: Ladder) -> dict[str, Any]:
    """What the ladder's part of a page reads."""
    from rankine.observation.report.ladder_figure import LADDER_HEADER, draw_ladder, ladder_rows

    return {
        "ladder": ladder,
        "ladder_header": LADDER_HEADER,
        "ladder_rows": ladder_rows(ladder),
        "figures": {"ladder": draw_ladder(ladder)},
    }


def _templates() -> Environment:
    """
    Raises:
        UsageError: matplotlib or Jinja2 is not installed.
    """
    try:
        import matplotlib  # noqa: F401 - said here, before anything is drawn
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise UsageError(f"the report needs {error.name}", hint="Run: pip install 'rankine[bench]'.") from None
    return Environment(
        loader=PackageLoader("rankine.observation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(record: DemoResult) -> str:
    templates = _templates()
    from rankine.observation.report import load_figures, quality_figures

    counts, engine_rows = view.engine_table(record.engines)
    split_counts, split_rows = view.split_table(record)
    figures = {
        "cdf": load_figures.draw_cdf(record.http),
        "rates": load_figures.draw_rates(record.sweeps),
        "pareto": quality_figures.draw_pareto(record),
        "certificate": quality_figures.draw_certificate(record.certificate) if record.certificate else None,
        "sizes": quality_figures.draw_sizes(record.contestants()),
        "training": quality_figures.draw_training(record.training) if record.training else None,
    }
    of_ladder = {} if record.ladder is None else _of_ladder(record.ladder)
    return templates.get_template("report.html.j2").render(
        **of_ladder | {"figures": figures | of_ladder.get("figures", {})},
        record=record,
        labels=LABELS,
        headlines=view.headlines(record),
        comparison=view.comparison(record),
        engine_counts=counts,
        engine_rows=engine_rows,
        split_counts=split_counts,
        split_rows=split_rows,
        split_text=view.split_text(record),
        certificate_rows=view.certificate_rows(record),
        metric_table=view.metric_table(record),
        method=view.method(record),
        cautions=_cautions(record),
    )


def _cautions(record: DemoResult) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    for role, load in record.http.items():
        if load.generator_bound:
            found.append(f"{LABELS[role]} over HTTP: {load.generator.reason}.")
    for role, sweep in record.sweeps.items():
        if sweep.generator_bound:
            found.append(f"{LABELS[role]}, rate sweep: the generator, not the server, may have set the limit.")
        if sweep.sustainable_rps is not None and not sweep.supports_p99:
            found.append(f"{LABELS[role]}, rate sweep: too few requests in the best trial for a claim about p99.")
    if record.certificate is None or record.certificate.verdict != "pass":
        found.append("Without a passed certificate the speed says nothing: the compressed model may rank worse.")
    return found

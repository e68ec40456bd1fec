"""``rankine certify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rankine.cli.margins import margins_option
from rankine.cli.options import DataOptions, carry_catalog, check_out, data_options, json_option
from rankine.errors import QualityGateFailed, UsageError

if TYPE_CHECKING:
    from rankine.certification import CertifySettings, Margins
    from rankine.certification.compare import Comparison
    from rankine.certification.score_files import ScoreKind

EPILOG = """\b
Examples:
  rankine certify runs/compiled --data ml-1m --margin 0.001 --out runs/certified
  rankine certify runs/compiled --data ml-1m --margin 0.001 --margin calibration=0.02 --slice age --out runs/certified
  rankine certify runs/certified --data ml-1m --parity
  rankine certify runs/old runs/new:small-int8 --data ml-1m
  rankine certify old.parquet new.parquet --scores probability --out certificate.json
"""


@click.command("certify", epilog=EPILOG)
@click.argument("first", metavar="ARTIFACT|A")
@click.argument("second", metavar="[B]", required=False)
@data_options
@margins_option
@click.option(
    "--procedure",
    type=click.Choice(["fixed-sequence", "holm"]),
    default="fixed-sequence",
    show_default=True,
    help="How several variants share the test rows: in an order fixed on validation rows, or by Holm's correction.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="FIELD",
    help="Test the largest values of this categorical or multi-hot feature for harm, repeatable [default: of the four "
    "categorical ones with the fewest values]. New and rare users and items are tested too.",
)
@click.option("--no-slices", is_flag=True, help="Test no parts of the rows for harm.")
@click.option("--fail-on-harm", is_flag=True, help="A harmed slice turns a pass into a fail.")
@click.option("--bootstrap-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of resampling.")
@click.option(
    "--scores",
    "kind",
    type=click.Choice(["logit", "probability", "ranking"]),
    help="What files of scores hold; 'ranking' is any numbers that only rank [default: logit].",
)
@click.option("--labels", type=click.Path(path_type=Path), help="File with the labels, where the scores have none.")
@click.option(
    "--parity",
    "parity",
    is_flag=True,
    help="Of a certified artifact: hold every engine that it was built for, on every device here, to the scores that "
    "were certified, and keep the certificates beside the artifact. Takes seconds; needed once on a new machine.",
)
@click.option("--engine", "engines", multiple=True, metavar="NAME", help="With --parity: only this engine, repeatable.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="With --parity: only this device, repeatable.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Of one artifact: folder to write, must not exist. Of two models, and of --parity: file for the result as "
    "JSON.",
)
@json_option
def command(
    first: str,
    second: str | None,
    data: DataOptions,
    margins: Margins,
    procedure: str,
    slices: tuple[str, ...],
    no_slices: bool,
    fail_on_harm: bool,
    bootstrap_seed: int,
    kind: ScoreKind | None,
    labels: Path | None,
    parity: bool,
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Test on held-out data that compressed variants are no worse than the baseline, or that B is no worse than A.

    With one ARTIFACT, every compiled variant is held against the artifact's baseline, and a new artifact with
    certificates and a plan is written. Exits with 3 when no compressed variant passed; the artifact is written all the
    same.

    With --parity nothing is tested anew: engines, devices and this machine's instruction set are held to the scores
    that were certified. Exits with 3 when one was not admitted.

    A and B are artifacts (ARTIFACT:VARIANT names a variant; else it is the one that is served), or files of scores:
    .parquet, .csv or .npz with a column 'score', in A or --labels a column 'label', and where known 'user', 'item' and
    'row_id'. Nothing but the result is written. Exits with 3 unless B passed.
    """
    from rankine.certification import CertifySettings
    from rankine.config import parse

    if slices and no_slices:
        raise click.UsageError("--slice and --no-slices exclude each other")
    settings = parse(
        CertifySettings,
        {
            "procedure": procedure,
            "slices": not no_slices,
            "slice_fields": slices,
            "fail_on_harm": fail_on_harm,
            "seed": bootstrap_seed,
        },
    )
    if parity:
        others = ("margins", "procedure", "slices", "no_slices", "fail_on_harm", "bootstrap_seed", "kind", "labels")
        _refuse((*others, "second"), "--parity")
        _refuse_one_file(Path(first))
        _certify_parity(Path(first), data, engines, devices, out, as_json=as_json)
        return
    _refuse(("engines", "devices"), "certificates of quality: give --parity")
    if second is None:
        _refuse_one_file(Path(first))
        _refuse(("kind", "labels"), "one artifact")
        _certify_artifact(Path(first), data, margins, settings, out, as_json=as_json)
        return
    _check_file(out)
    comparison = _compare(first, second, data, margins, settings, kind, labels)
    if out is not None:
        out.write_text(comparison.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _show(comparison, as_json=as_json)


def _certify_artifact(
    artifact: Path, data: DataOptions, margins: Margins, settings: CertifySettings, out: Path | None, *, as_json: bool
) -> None:
    from rankine.artifact import Artifact
    from rankine.certification.certify import certify
    from rankine.cli.inspect import require_pass, show
    from rankine.cli.render import watch

    if out is None:
        raise click.UsageError("one artifact needs --out FOLDER for what is written; or name a second model")
    check_out(out)
    with watch() as emit:
        child = certify(Artifact.open(artifact), data.open(), margin=margins, settings=settings, out=out, emit=emit)
    carry_catalog(artifact, out)
    show(child, as_json=as_json)
    require_pass(child)


def _certify_parity(
    artifact: Path,
    data: DataOptions,
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    from rankine.artifact import Artifact
    from rankine.certification.parity_here import certify_parity_here
    from rankine.cli.render import print_json, print_lines, print_table, watch

    _check_file(out)
    with watch() as emit:
        report = certify_parity_here(
            Artifact.open(artifact), data.open(), engines=engines or None, devices=devices or None, emit=emit
        )
    if out is not None:
        out.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        print_lines([("instruction set", report.instruction_set)])
        rows = report.table_rows()
        if rows:
            print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    if not report.admitted:
        click.get_current_context().exit(QualityGateFailed.exit_status)


def _check_file(out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        raise click.BadParameter(f"the folder '{out.parent}' does not exist", param_hint="--out")
    if out is not None and out.is_dir():
        raise click.BadParameter(f"'{out}' is a folder, and the result is a file", param_hint="--out")


def _compare(
    first: str,
    second: str,
    data: DataOptions,
    margins: Margins,
    settings: CertifySettings,
    kind: ScoreKind | None,
    labels: Path | None,
) -> Comparison:
    from rankine.certification.compare import compare_artifacts, compare_scores
    from rankine.certification.named import named
    from rankine.certification.score_files import SUFFIXES
    from rankine.cli.render import watch

    of_scores = [Path(name).suffix in SUFFIXES for name in (first, second)]
    if all(of_scores):
        _refuse(("data", "schema", "rows", "seed", "procedure", "slices", "fail_on_harm"), "files of scores")
        with watch() as emit:
            return compare_scores(
                Path(first), Path(second), labels=labels, kind=kind, margin=margins, settings=settings, emit=emit
            )
    if any(of_scores):
        raise UsageError(
            "compares two artifacts, or two files of scores",
            where="certify",
            got=f"{first} and {second}",
            allowed=f"files of scores end in {', '.join(SUFFIXES)}",
        )
    _refuse(("kind", "labels", "procedure"), "two artifacts")
    a, b = named(first), named(second)
    with watch() as emit:
        return compare_artifacts(a, b, data.open(), margin=margins, settings=settings, emit=emit)


def _refuse_one_file(path: Path) -> None:
    from rankine.certification.score_files import SUFFIXES

    if path.suffix in SUFFIXES:
        hint = "Give a second one: `rankine certify OLD NEW`."
        raise UsageError("one file of scores has nothing to be compared with", where=str(path), hint=hint)


def _refuse(names: tuple[str, ...], what: str) -> None:
    """Refuse options that were given and would be ignored."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if given and parameter.name in names:
            raise click.UsageError(f"{parameter.opts[0]} has no meaning for {what}")


def _show(comparison: Comparison, *, as_json: bool) -> None:
    """Print a comparison, and exit with 3 unless it passed; as JSON the record alone tells."""
    from rankine.cli.certificate import print_certificate
    from rankine.cli.render import print_json, print_lines

    deciding = comparison.deciding
    if as_json:
        print_json(comparison)
        if not deciding.passed:
            click.get_current_context().exit(QualityGateFailed.exit_status)
        return
    print_lines([("A", comparison.baseline), ("B", comparison.variant)])
    for certificate in comparison.certificates:
        click.echo()
        print_certificate(certificate)
    if not deciding.passed:
        raise QualityGateFailed(
            "B did not pass", where=comparison.variant, got=f"{deciding.verdict}: {deciding.reason}",
            hint="Take more rows, or accept larger margins, if the loss is one that you can accept.",
        )  # fmt: skip

"""``rankine inspect``, and how an artifact is shown after every verb that writes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankine.cli.inspect_binding import BindingView, binding_view, print_binding
from rankine.cli.inspect_graph import GraphView, RiskView, graph_view, print_graph
from rankine.cli.options import json_option
from rankine.cli.render import format_bytes
from rankine.config import Frozen
from rankine.errors import QualityGateFailed

if TYPE_CHECKING:
    from rankine.artifact import Artifact
    from rankine.certification.plan import Plan
    from rankine.models.schema import Schema
    from rankine.models.tables import AnyTable

__all__ = ["command", "require_pass", "show"]

EPILOG = """\b
Examples:
  rankine inspect runs/small --verify
  rankine inspect model.onnx
"""


class TableView(Frozen):
    """An embedding table of a variant."""

    rows: int
    dim: int
    form: str
    size_bytes: int


class VariantView(Frozen):
    """A variant as `inspect` shows it; sizes in bytes, errors on logits.

    Attributes:
        bytes_per_row: what a row reads of tables and numbers; of a set one value is counted, of a sequence all.
        standing: on each engine, by which right it runs there.
        binding: how it is cut by when its values are known; None where it is not.
    """

    name: str
    numeric: str
    steps: tuple[str, ...]
    macs_per_row: int
    bytes_per_row: int
    size_bytes: int
    tables: Mapping[str, TableView]
    risky_operators: tuple[RiskView, ...]
    validation_auc: float | None
    engines: Mapping[str, float]
    quality: Mapping[str, str]
    parity: Mapping[str, bool]
    standing: Mapping[str, str] = {}
    binding: BindingView | None = None


class ArtifactView(Frozen):
    """An artifact as `inspect` shows it."""

    path: str
    name: str
    version: str
    stage: str
    digest: str
    size_bytes: int
    features: tuple[Mapping[str, str], ...]
    tables: Mapping[str, int]
    variants: tuple[VariantView, ...]
    plan: Mapping[str, str] | None
    test_split_uses: int | None = None
    ladder: Mapping[str, Any] | None = None


@click.command("inspect", epilog=EPILOG)
@click.argument("artifact", type=click.Path(path_type=Path), metavar="ARTIFACT|MODEL.onnx")
@click.option("--verify", is_flag=True, help="Check the SHA-256 of every content.")
@click.option("--certificates", is_flag=True, help="Show every quality certificate in full, one a task.")
@json_option
def command(artifact: Path, verify: bool, certificates: bool, as_json: bool) -> None:
    """Show what an artifact holds: features, tables, variants, builds, certificates; or what an ONNX file does.

    Of every variant: multiply-adds and bytes a row, operators that need care, and what of it is computed once an item,
    once a request and for every row.
    """
    if artifact.suffix == ".onnx" and artifact.is_file():
        _show_graph(graph_view(artifact), as_json=as_json)
        return
    from rankine.artifact import Artifact
    from rankine.certification.plan import task_certificates
    from rankine.cli.certificate import print_certificate

    opened = Artifact.open(artifact)
    if verify:
        opened.verify()
    show(opened, as_json=as_json)
    if certificates and not as_json:
        for by_task in task_certificates(opened).values():
            for certificate in by_task.values():
                click.echo()
                print_certificate(certificate)


def show(artifact: Artifact, *, as_json: bool) -> None:
    """Print an artifact as tables, or as JSON."""
    from rankine.cli.inspect_ladder import print_ladder
    from rankine.cli.render import print_json, print_lines, print_table
    from rankine.planning.ladder import read_ladder

    view = view_of(artifact)
    if as_json:
        print_json(view)
        return
    print_lines(
        [
            ("artifact", f"{view.path} ({format_bytes(view.size_bytes)})"),
            ("name", f"{view.name}, version {view.version}, stage {view.stage}"),
        ]
    )
    print_table(
        ("feature", "kind", "side", "table", "rows"),
        [(f["name"], f["kind"], f["side"], f["table"], f["rows"]) for f in view.features],
    )
    print_table(
        ("table", *(variant.name for variant in view.variants)),
        [(name, *(_table_text(variant.tables.get(name)) for variant in view.variants)) for name in view.tables],
    )
    print_table(
        ("variant", "numeric", "MACs/row", "bytes/row", "size", "largest logit error by engine", "certificates"),
        [
            (
                variant.name,
                variant.numeric,
                f"{variant.macs_per_row:,}",
                f"{variant.bytes_per_row:,}",
                format_bytes(variant.size_bytes),
                ", ".join(f"{engine} {error:.1e}" for engine, error in variant.engines.items()) or "not compiled",
                _certificates_text(variant),
            )
            for variant in view.variants
        ],
    )
    _print_risks(view)
    for variant in view.variants:
        if variant.binding is not None:
            print_binding(variant.name, variant.binding)
    ladder = read_ladder(artifact)
    if ladder is not None:
        print_ladder(ladder)
    served = f"{view.plan['variant']} on {view.plan['engine']}" if view.plan else "nothing: no certificate has passed"
    uses = [("test split", f"used {view.test_split_uses} times")] if (view.test_split_uses or 0) > 1 else []
    print_lines([("served by default", served), *uses])


def view_of(artifact: Artifact) -> ArtifactView:
    """What `inspect` shows of an artifact."""
    from rankine.certification.ledger import read_uses
    from rankine.certification.plan import parity_certificates, quality_certificates
    from rankine.certification.standing import standings
    from rankine.compilation.compile import build_names, read_build
    from rankine.models.schema import DenseFeature
    from rankine.models.transforms import Transforms, table_of
    from rankine.models.variant import load_model, read_variant, variant_names
    from rankine.planning.ladder import read_ladder

    transforms = Transforms.read(artifact)
    tables = transforms.table_rows()
    features = []
    for feature in transforms.schema.features:
        table = "" if isinstance(feature, DenseFeature) else table_of(feature)
        rows = f"{tables[table]:,}" if table else ""
        features.append(
            {"name": feature.name, "kind": feature.kind, "side": feature.side, "table": table, "rows": rows}
        )
    qualities, parities, plan = quality_certificates(artifact), parity_certificates(artifact), _plan(artifact)
    variants = []
    for name in variant_names(artifact):
        variant, model = read_variant(artifact, name), load_model(artifact, name)
        root = f"variants/{name}"
        variants.append(
            VariantView(
                name=name,
                numeric=variant.numeric,
                steps=variant.steps,
                macs_per_row=variant.macs_per_row,
                bytes_per_row=_bytes_per_row(model.schema, model.tables),
                tables={key: _table_view(table) for key, table in model.tables.items()},
                risky_operators=graph_view(model.graph).risky_operators,
                size_bytes=artifact.size_bytes(f"{root}/tables/") + artifact.size_bytes(f"{root}/graph.onnx"),
                validation_auc=variant.validation_auc,
                engines={e: read_build(artifact, name, e).max_logit_error for e in build_names(artifact, name)},
                quality={e: c.verdict for (v, e), c in qualities.items() if v == name},
                parity={e: c.admitted for (v, e), c in parities.items() if v == name},
                standing=standings(artifact, name),
                binding=binding_view(artifact, name),
            )
        )
    return ArtifactView(
        path=str(artifact.path),
        name=artifact.name,
        version=artifact.manifest.version,
        stage=artifact.manifest.stage,
        digest=artifact.digest,
        size_bytes=artifact.size_bytes(),
        features=tuple(features),
        tables=tables,
        variants=tuple(variants),
        plan={"variant": plan.variant, "engine": plan.engine} if plan else None,
        test_split_uses=uses.count if (uses := read_uses(artifact)) else None,
        ladder=ladder.model_dump(mode="json") if (ladder := read_ladder(artifact)) else None,
    )


_TOO_FEW = "Too little data"
_MORE_ROWS = "Take more rows, or a larger share of them for the test: 'split: {fractions: ...}' in the schema."
_GENTLER = (
    "Compress less, by another --recipe; take more rows; or accept a larger margin of the metric that decides: "
    "--margin 0.002, --margin calibration=0.02."
)


def require_pass(artifact: Artifact) -> None:
    """Raise unless a compressed variant has a passed certificate.

    Raises:
        QualityGateFailed: none has; says why for each.
    """
    from rankine.certification.plan import quality_certificates
    from rankine.models.variant import BASELINE, variant_names

    compressed = {pair: c for pair, c in quality_certificates(artifact).items() if pair[0] != BASELINE}
    others = [name for name in variant_names(artifact) if name != BASELINE]
    if others and not any(certificate.passed for certificate in compressed.values()):
        reasons = " ".join(f"{variant} on {engine}: {c.reason}" for (variant, engine), c in compressed.items())
        raise QualityGateFailed(
            "no compressed variant passed its certificate",
            where=str(artifact.path),
            got=reasons or f"no certificate for {', '.join(others)}",
            hint=_MORE_ROWS if all(_TOO_FEW in c.reason for c in compressed.values()) and compressed else _GENTLER,
        )


def _show_graph(view: GraphView, *, as_json: bool) -> None:
    from rankine.cli.render import print_json

    if as_json:
        print_json(view)
    else:
        print_graph(view)


def _print_risks(view: ArtifactView) -> None:
    from rankine.cli.render import print_table

    rows = [
        (variant.name, risk.operator, f"{risk.count}", risk.reason)
        for variant in view.variants
        for risk in variant.risky_operators
    ]
    if rows:
        print_table(("variant", "operator", "count", "needs care"), rows)


def _table_view(table: AnyTable) -> TableView:
    return TableView(rows=table.count, dim=table.dim, form=table.form, size_bytes=table.size_bytes)


def _table_text(table: TableView | None) -> str:
    if table is None:
        return ""
    return f"{table.rows:,} x {table.dim} {table.form}, {format_bytes(table.size_bytes)}"


def _bytes_per_row(schema: Schema, tables: Mapping[str, AnyTable]) -> int:
    from rankine.models.schema import DenseFeature, SequenceFeature
    from rankine.models.transforms import table_of

    total = 0
    for feature in schema.features:
        if isinstance(feature, DenseFeature):
            total += 4 * feature.width
            continue
        table = tables[table_of(feature)]
        total += table.read_bytes * (feature.max_length if isinstance(feature, SequenceFeature) else 1)
    return total


def _certificates_text(variant: VariantView) -> str:
    from rankine.certification.standing import NOT_CERTIFIED

    if not variant.quality and not variant.parity:
        return NOT_CERTIFIED
    return ", ".join(f"{engine} {told}" for engine, told in variant.standing.items())


def _plan(artifact: Artifact) -> Plan | None:
    from rankine.certification.plan import PLAN_FILE, Plan

    return artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None

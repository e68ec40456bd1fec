"""``rankine inspect``, and how an artifact is shown after every verb that writes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankine.cli.options import artifact_argument, json_option
from rankine.config import Frozen
from rankine.errors import QualityGateFailed

if TYPE_CHECKING:
    from rankine.artifact import Artifact
    from rankine.certification.plan import Plan

__all__ = ["command", "require_pass", "show"]

EPILOG = """\b
Example:
  rankine inspect runs/small --verify
"""


class VariantView(Frozen):
    """A variant as `inspect` shows it; sizes in bytes, errors on logits."""

    name: str
    numeric: str
    steps: tuple[str, ...]
    macs_per_row: int
    size_bytes: int
    validation_auc: float | None
    engines: Mapping[str, float]
    quality: Mapping[str, str]
    parity: Mapping[str, bool]


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


@click.command("inspect", epilog=EPILOG)
@artifact_argument
@click.option("--verify", is_flag=True, help="Check the SHA-256 of every content.")
@click.option("--certificates", is_flag=True, help="Show every quality certificate in full.")
@json_option
def command(artifact: Path, verify: bool, certificates: bool, as_json: bool) -> None:
    """Show what an artifact holds: features, variants, builds, certificates."""
    from rankine.artifact import Artifact
    from rankine.certification import quality_rows
    from rankine.certification.plan import quality_certificates
    from rankine.cli.render import print_lines

    opened = Artifact.open(artifact)
    if verify:
        opened.verify()
    show(opened, as_json=as_json)
    if certificates and not as_json:
        for certificate in quality_certificates(opened).values():
            click.echo()
            print_lines(quality_rows(certificate))


def show(artifact: Artifact, *, as_json: bool) -> None:
    """Print an artifact as tables, or as JSON."""
    from rankine.cli.render import print_json, print_lines, print_table

    view = view_of(artifact)
    if as_json:
        print_json(view)
        return
    print_lines(
        [
            ("artifact", f"{view.path} ({view.size_bytes / 1e6:.1f} MB)"),
            ("name", f"{view.name}, version {view.version}, stage {view.stage}"),
        ]
    )
    print_table(
        ("feature", "kind", "side", "table", "rows"),
        [(f["name"], f["kind"], f["side"], f["table"], f["rows"]) for f in view.features],
    )
    print_table(
        ("variant", "numeric", "MACs/row", "size", "largest logit error by engine", "certificates"),
        [
            (
                variant.name,
                variant.numeric,
                f"{variant.macs_per_row:,}",
                f"{variant.size_bytes / 1e6:.2f} MB",
                ", ".join(f"{engine} {error:.1e}" for engine, error in variant.engines.items()) or "not compiled",
                _certificates_text(variant),
            )
            for variant in view.variants
        ],
    )
    served = f"{view.plan['variant']} on {view.plan['engine']}" if view.plan else "nothing: no certificate has passed"
    print_lines([("served by default", served)])


def view_of(artifact: Artifact) -> ArtifactView:
    """What `inspect` shows of an artifact."""
    from rankine.certification.plan import parity_certificates, quality_certificates
    from rankine.compilation.compile import build_names, read_build
    from rankine.models.schema import DenseFeature
    from rankine.models.transforms import Transforms, table_of
    from rankine.models.variant import read_variant, variant_names

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
        variant = read_variant(artifact, name)
        root = f"variants/{name}"
        variants.append(
            VariantView(
                name=name,
                numeric=variant.numeric,
                steps=variant.steps,
                macs_per_row=variant.macs_per_row,
                size_bytes=artifact.size_bytes(f"{root}/tables/") + artifact.size_bytes(f"{root}/graph.onnx"),
                validation_auc=variant.validation_auc,
                engines={e: read_build(artifact, name, e).max_logit_error for e in build_names(artifact, name)},
                quality={e: c.verdict for (v, e), c in qualities.items() if v == name},
                parity={e: c.admitted for (v, e), c in parities.items() if v == name},
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
    )


def require_pass(artifact: Artifact) -> None:
    """Raise unless a compressed variant has a passed certificate.

    Raises:
        QualityGateFailed: none has; says why for each.
    """
    from rankine.certification.plan import quality_certificates
    from rankine.models.variant import BASELINE

    compressed = {pair: c for pair, c in quality_certificates(artifact).items() if pair[0] != BASELINE}
    if compressed and not any(certificate.passed for certificate in compressed.values()):
        reasons = " ".join(f"{variant} on {engine}: {c.reason}" for (variant, engine), c in compressed.items())
        raise QualityGateFailed(
            "no compressed variant passed its certificate",
            where=str(artifact.path),
            got=reasons,
            hint="Use a wider student, more data, or accept a larger --margin.",
        )


def _certificates_text(variant: VariantView) -> str:
    quality = [f"{engine} {verdict}" for engine, verdict in variant.quality.items()]
    parity = [f"{engine} {'parity' if admitted else 'NO PARITY'}" for engine, admitted in variant.parity.items()]
    return ", ".join(quality + parity) or "none"


def _plan(artifact: Artifact) -> Plan | None:
    from rankine.certification.plan import PLAN_FILE, Plan

    return artifact.read_json(PLAN_FILE, Plan) if PLAN_FILE in artifact else None

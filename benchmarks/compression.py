"""Compress the converged baseline of every family, certify the result, and hold it against what honesty asks for.

$ python benchmarks/compression.py --work /tmp/compression --only dcn_v2,dlrm --data-root ../shared/data

Beside each compressed variant: the networks of the family that were trained from scratch (`compression_sizes.py`), each
tested alone without correction for their number, which is generous to them; and a student that is too small, which the
gate has to refuse. One result file a family in benchmarks/results/compression/; what is in the work folder already is
not done again.

Needs the same data. A quarter to half an hour a family on one core after `compression_sizes.py`; without it hours,
since baseline and networks are trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compression_sizes import SCRATCH, SIZES, artifact_of, from_scratch, validation_figures
from families_quality import FAMILIES, Family, arguments_for, baseline_of, open_data, tell
from pydantic import AwareDatetime
from script import run_script

from rankine.artifact import Artifact
from rankine.certification.certificate import QualityCertificate
from rankine.certification.compare import compare_artifacts
from rankine.certification.named import named
from rankine.certification.plan import task_certificates
from rankine.certification.settings import CertifySettings
from rankine.compilation.compile import compile_artifact
from rankine.compression.outcome import PassReport
from rankine.compression.recipe import Distill, Quantize, Recipe
from rankine.config import Frozen, load_yaml
from rankine.data import Dataset
from rankine.environment import environment
from rankine.models.network import Size, load_network, size_of
from rankine.models.variant import BASELINE, read_variant
from rankine.planning.ladder import LADDER_FILE, Ladder
from rankine.planning.optimize import optimize, verification_rows

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "compression"
RECIPES = HERE / "recipes"
"""One file a family, chosen on validation rows; with ``.too-small``, what the gate has to refuse."""
TOO_SMALL = "too-small"


class Made(Frozen):
    """A compressed variant or a network from scratch, with what was tested of it.

    Attributes:
        sizes: settings of its architecture that differ from the baseline's, of a network from scratch.
        validation: of a network from scratch, paired with the baseline.
        certificates: one a task, on its primary engine, on test rows.
    """

    name: str
    sizes: Mapping[str, Any] = {}
    size: Size
    reports: tuple[PassReport, ...] = ()
    validation: Mapping[str, float] = {}
    certificates: tuple[QualityCertificate, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every task's certificate passed."""
        return bool(self.certificates) and all(one.passed for one in self.certificates)


class FamilyCompression(Frozen):
    """One family: baseline, what the recipe made of it, networks from scratch, and the student that is too small."""

    schema_version: int = 1
    kind: str = "compression"
    family: str
    dataset: str
    margin: float
    rows: Mapping[str, int]
    baseline: Size
    baseline_test_auc: Mapping[str, float]
    recipe: Recipe
    ours: Made
    too_small: Made
    scratch: tuple[Made, ...]
    ladder: Ladder
    created: AwareDatetime
    environment: Mapping[str, Any]


def main() -> None:
    arguments = arguments_for(__doc__, SIZES).parse_args()
    for name in arguments.only:
        out = RESULTS / f"{name}.json"
        if out.exists():
            continue
        family = FAMILIES[name]
        result = run(name, family, open_data(family, arguments.data_root), arguments.work / name)
        RESULTS.mkdir(parents=True, exist_ok=True)
        out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        share = result.ours.size.macs_per_row / result.baseline.macs_per_row
        print(
            f"{name}: {'certified' if result.ours.passed else 'NOT certified'} at {share:.3f} of the MACs", flush=True
        )


def run(name: str, family: Family, dataset: Dataset, work: Path) -> FamilyCompression:
    """Compress, certify and compare; resumes from what ``work`` has."""
    baseline = baseline_of(name, family, dataset, work)
    recipe = load_yaml(Recipe, RECIPES / f"{name}.yaml")
    tiny = _too_small(name)
    out = work / "compressed"
    certified = (
        Artifact.open(out)
        if out.exists()
        else optimize(baseline, (recipe, tiny), dataset, margin=family.margin, out=out, emit=tell)
    )
    ours, small = (_compressed(certified, f"{one}-int8") for one in (recipe.name, TOO_SMALL))
    return FamilyCompression(
        family=name,
        dataset=dataset.name,
        margin=family.margin,
        rows={part: len(getattr(dataset.splits(), part)) for part in ("train", "validation", "test")},
        baseline=size_of(load_network(baseline, BASELINE)),
        baseline_test_auc={one.task: one.baseline_value for one in ours.certificates},
        recipe=recipe,
        ours=ours,
        too_small=small,
        scratch=tuple(_from_scratch(name, family, certified, baseline, dataset, work)),
        ladder=certified.read_json(LADDER_FILE, Ladder),
        created=datetime.now(UTC),
        environment=environment(),
    )


def _too_small(name: str) -> Recipe:
    """The smallest of the sizes, or what a file of its own says where that is not too small."""
    own = RECIPES / f"{name}.{TOO_SMALL}.yaml"
    if own.exists():
        return load_yaml(Recipe, own)
    return Recipe(name=TOO_SMALL, passes=(Distill(sizes=SIZES[name][-1]), Quantize()))


def _compressed(artifact: Artifact, name: str) -> Made:
    variant = read_variant(artifact, name)
    return Made(
        name=name,
        size=size_of(load_network(artifact, name)),
        reports=tuple(PassReport.model_validate(report) for report in variant.details["passes"]),
        certificates=_certificates(artifact, name),
    )


def _certificates(artifact: Artifact, variant: str) -> tuple[QualityCertificate, ...]:
    """Of the first engine that has one for every task: the primary one's."""
    found = [tuple(by_task.values()) for (name, _), by_task in task_certificates(artifact).items() if name == variant]
    return found[0] if found else ()


def _from_scratch(
    name: str, family: Family, certified: Artifact, baseline: Artifact, dataset: Dataset, work: Path
) -> Sequence[Made]:
    """Each tested alone."""
    found = []
    for step, sizes in from_scratch(name):
        made = artifact_of(work, baseline, dataset, step, sizes, SCRATCH)
        compiled = work / f"{step}-{SCRATCH}.compiled"
        if not compiled.exists():
            rows = verification_rows(made, dataset)
            compile_artifact(made, engines=("onnxruntime",), verify_batch=rows, out=compiled, emit=tell)
        compared = compare_artifacts(
            named(f"{certified.path}:{BASELINE}"),
            named(str(compiled)),
            dataset,
            margin=family.margin,
            settings=CertifySettings(slices=False),
            emit=tell,
        )
        found.append(
            Made(
                name=step,
                sizes=sizes,
                size=size_of(load_network(made, BASELINE)),
                validation=validation_figures(made, SCRATCH, baseline, dataset),
                certificates=compared.certificates,
            )
        )
    return found


if __name__ == "__main__":
    run_script(main)

"""Two models on the same rows, outside of the main line: two artifacts, or two files of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from rankine.certification.certificate import QualityCertificate
from rankine.certification.evaluation import held_out_rows, slices_for, split_facts
from rankine.certification.ledger import SplitUse, read_uses, record_use, split_key
from rankine.certification.margins import Margins
from rankine.certification.metric_tests import Verdict
from rankine.certification.named import Named
from rankine.certification.plan import deciding
from rankine.certification.provenance import created_at
from rankine.certification.quality import certify_quality
from rankine.certification.score_files import PairedScores, ScoreKind, pair_scores, read_score_file
from rankine.certification.scoring import score
from rankine.certification.settings import CertifySettings
from rankine.certification.trial import Trial, model_facts
from rankine.config import Frozen
from rankine.data.dataset import Dataset
from rankine.errors import UsageError
from rankine.events import Emit, Note, ignore, step
from rankine.models.schema import Schema
from rankine.training.record import check_same_data, data_part

__all__ = ["Comparison", "compare_artifacts", "compare_scores"]

_REPEATED_SHARE = 0.5
"""With coarse scores some rows look alike without being the same."""


class Comparison(Frozen):
    """Whether model ``variant`` is no worse than model ``baseline``: a certificate a task, of which all must pass."""

    schema_version: Literal[1] = 1
    kind: Literal["comparison"] = "comparison"
    baseline: str
    variant: str
    verdict: Verdict
    certificates: tuple[QualityCertificate, ...] = Field(min_length=1)

    @property
    def deciding(self) -> QualityCertificate:
        """The certificate of the task that decides."""
        return deciding(self.certificates)

    @model_validator(mode="after")
    def _verdict_is_the_deciding_one(self) -> Self:
        if self.verdict != self.deciding.verdict:
            raise ValueError(f"verdict '{self.verdict}' does not follow from the certificates")
        return self


def compare_artifacts(
    a: Named,
    b: Named,
    dataset: Dataset,
    *,
    margin: float | Margins = 0.001,
    settings: CertifySettings | None = None,
    emit: Emit = ignore,
) -> Comparison:
    """Test on the test split that the scores of ``b`` are no worse than those of ``a``; nothing is written.

    Args:
        a, b: variants of one artifact or of two, trained on the same data with the same schema.
        dataset: the one that both were trained on.
        margin, settings: as for :func:`~rankine.certification.certify.certify`.

    Raises:
        UsageError: the two read other features, predict other tasks or split the data otherwise.
        DataError: ``dataset`` is another one, or its test rows have one class only.
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    settings = CertifySettings() if settings is None else settings
    _check_comparable(a, b)
    for named in (a, b):
        check_same_data(named.artifact, dataset)
    _, test = held_out_rows(a.artifact, dataset)
    slices = slices_for(a.artifact, dataset, test, settings)
    split = split_key(dataset.provenance, dataset.schema.split.model_dump_json())
    known = [uses for named in (a, b) if (uses := read_uses(named.artifact, split)) is not None]
    lineage = max(known, key=lambda uses: uses.count, default=None)
    uses = record_use(split, _use(b.artifact.digest, str(b), margins), lineage, emit)
    baseline = score(a.artifact, *a.pair, test.batch, emit)
    facts = {f"baseline_{key}": value for key, value in model_facts(a.artifact, a.pair).items()}
    trial = Trial(
        rows=test,
        baseline=baseline,
        settings=settings,
        slices=slices,
        split_uses=uses.count,
        facts={**split_facts(dataset), **facts},
    )
    # Each artifact encodes the rows by its own transforms.
    rows = test if b.artifact.digest == a.artifact.digest else held_out_rows(b.artifact, dataset)[1]
    [found] = trial.quality(b.artifact, b.pair, score(b.artifact, *b.pair, rows.batch, emit), [margins])
    return _comparison(str(a), str(b), found)


def compare_scores(
    a: Path,
    b: Path,
    *,
    labels: Path | None = None,
    kind: ScoreKind | None = None,
    margin: float | Margins = 0.001,
    settings: CertifySettings | None = None,
    emit: Emit = ignore,
) -> Comparison:
    """Test that the scores in file ``b`` are no worse than those in file ``a``.

    Args:
        a, b: files of scores, see :mod:`rankine.certification.score_files`.
        labels: a third file with the labels, where ``a`` has none.
        kind: what the scores are; None for logits, unless they look like probabilities.
        margin: as for :func:`~rankine.certification.certify.certify`.
        settings: what there is of them for scores alone: the seed.

    Raises:
        DataError: the files cannot be read, or are not of the same rows.
        UsageError: scores look like probabilities, and ``kind`` does not say what they are.
    """
    margins = margin if isinstance(margin, Margins) else Margins.of(margin)
    settings = CertifySettings() if settings is None else settings
    with step(emit, "read scores"):
        files = (read_score_file(a), read_score_file(b))
        of_labels = None if labels is None else read_score_file(labels, needs="label")
        paired = pair_scores(*files, of_labels, kind)
    _tell_repeated(paired, emit)
    split = split_key({"rows": paired.rows_digest}, "files")
    uses = record_use(split, _use(paired.hashes["variant_scores"], b.name, margins), None, emit)
    certificate = certify_quality(
        paired.labels,
        paired.a,
        paired.b,
        margin=margins,
        clusters=paired.clusters,
        groups=paired.clusters.get("user"),
        variant=b.name,
        engine="scores",
        link="identity" if kind == "ranking" else "sigmoid",
        provenance={"rows": split, **paired.hashes, "scores": kind or "logit"},
        split_uses=uses.count,
        seed=settings.seed,
    )
    return _comparison(str(a), str(b), [certificate])


def _comparison(a: str, b: str, found: list[QualityCertificate]) -> Comparison:
    return Comparison(baseline=a, variant=b, verdict=deciding(found).verdict, certificates=tuple(found))


def _use(artifact: str, variant: str, margins: Margins) -> SplitUse:
    return SplitUse(created=created_at(None), artifact=artifact, variants=(variant,), margins=(margins.model_dump(),))


def _tell_repeated(paired: PairedScores, emit: Emit) -> None:
    """Rows given twice look like twice as much evidence; only ids could tell them from rows that are alike."""
    share = paired.repeated_share
    if share > _REPEATED_SHARE and not paired.clusters:
        text = (
            f"{share:.0%} of the rows have the label and both scores of another row. If they are the same rows given "
            "more than once, the bounds are too narrow: leave them out, or give a column 'user' or 'item'"
        )
        emit(Note("scores", text))


def _check_comparable(a: Named, b: Named) -> None:
    first, second = (named.artifact.read_json("schema.json", Schema) for named in (a, b))
    here, there = data_part(first).model_dump(mode="json"), data_part(second).model_dump(mode="json")
    here["links"], there["links"] = ([task.link for task in schema.tasks] for schema in (first, second))
    differing = [key for key in here if here[key] != there[key]]
    if differing:
        raise UsageError(
            "the two models do not have the same schema",
            where=f"{a}, {b}",
            got=f"they differ in {', '.join(differing)}",
            allowed="the same features, tasks, links and split",
            hint="Score the same held-out rows with both, and give two files of scores instead.",
        )

"""Several variants certified on one split: their certificates under a procedure that keeps false passes at 5 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rankine.certification.certificate import QualityCertificate
from rankine.certification.multiplicity import Multiplicity, Procedure, fixed_sequence, holm

__all__ = ["under_procedure"]

_PROCEDURES = {"fixed-sequence": fixed_sequence, "holm": holm}


def under_procedure(
    family: Mapping[str, Sequence[QualityCertificate]], procedure: Procedure, alpha: float = 0.05
) -> dict[str, tuple[QualityCertificate, ...]]:
    """The certificates of a family of variants, each with how it came through; one that did not is inconclusive.

    Args:
        family: by the variant's name, its certificates of all tasks (all must pass, so its p-value is the largest), in
            the order in which they are tested: fixed on validation rows, before any look at the test rows.
        procedure: ``fixed-sequence`` stops at the first that fails; ``holm`` needs no order.
        alpha: the chance of any false pass.
    """
    order = tuple(family)
    p_values = [max(certificate.p_value for certificate in family[name]) for name in order]
    adjusted = _PROCEDURES[procedure](p_values, alpha).p_adjusted
    found = {}
    for place, name in enumerate(order):
        record = Multiplicity(
            procedure=procedure,
            order=order,
            position=place + 1,
            p_value=p_values[place],
            p_adjusted=adjusted[place],
            alpha=alpha,
        )
        found[name] = tuple(_under(certificate, record) for certificate in family[name])
    return found


def _under(certificate: QualityCertificate, record: Multiplicity) -> QualityCertificate:
    """The certificate with the record; validated again, as every certificate is."""
    changes: dict[str, object] = {"multiplicity": record}
    if certificate.passed and not record.passed:
        changes |= {"verdict": "inconclusive", "reason": _why(certificate, record)}
    fields = {name: getattr(certificate, name) for name in QualityCertificate.model_fields}
    return QualityCertificate.model_validate(fields | changes)


def _why(certificate: QualityCertificate, record: Multiplicity) -> str:
    if record.p_value > record.alpha:
        return "This task passes, but another task of the variant does not."
    if record.procedure == "holm":
        return (
            f"Passes alone (p {record.p_value:.4f}), but not among the {len(record.order)} variants tested together: "
            f"Holm's adjusted p is {record.p_adjusted:.4f}, over {record.alpha:g}."
        )
    return (
        f"Passes alone (p {record.p_value:.4f}), but the fixed sequence stopped before it: of "
        f"{', '.join(record.order[: record.position])}, one before {certificate.variant} did not pass."
    )

"""How certificates are taken, beside their margins."""

from __future__ import annotations

from pydantic import Field

from rankine.certification.multiplicity import Procedure
from rankine.config import Frozen

__all__ = ["CertifySettings"]


class CertifySettings(Frozen):
    """What is tested beyond the metrics, and how several variants share one test split.

    Attributes:
        procedure: over the compressed variants. A fixed sequence, in an order that is found on validation rows, tests
            each at the full level and loses no power by there being several; it stops at the first that does not pass.
            Holm's needs no order and goes on, at a smaller level for each.
        slices: whether parts of the rows are tested for harm.
        slice_fields: categorical and multi-hot features whose largest values are slices; empty: the four categorical
            ones with the fewest values. New and rare users and items are slices in any case.
        fail_on_harm: whether a harmed slice turns a pass into a fail.
        seed: of the bootstrap.
    """

    procedure: Procedure = "fixed-sequence"
    slices: bool = True
    slice_fields: tuple[str, ...] = ()
    fail_on_harm: bool = False
    seed: int = Field(default=0, ge=0)

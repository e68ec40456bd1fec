"""What every engine must do, as plain checks that any engine can be held to, those of other packages too.

A check takes a :class:`~rankine.compilation.conformance.case.Case` (one engine, with one model built for it), and
raises :class:`~rankine.errors.ConformanceFailed` or gives what it measured. An engine is held to all of them, as far as
its capability record says it can; ``rankine conformance`` runs them over the reference models.
"""

from __future__ import annotations

from rankine.compilation.conformance.case import Case, build_case, why_not
from rankine.compilation.conformance.checks import CHECKS

__all__ = ["CHECKS", "Case", "build_case", "why_not"]

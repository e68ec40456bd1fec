"""Stage 5: the statistics that let a variant be served.

``certify_quality`` compares a compiled variant with its baseline, once, on its primary engine; ``certify_parity``
compares any other engine with the primary one, wherever it runs.
"""

from rankine.certification.parity import ParityCertificate, certify_parity
from rankine.certification.quality import QualityCertificate, Verdict, certify_quality, verdict_of
from rankine.certification.render import parity_rows, quality_rows

__all__ = [
    "ParityCertificate",
    "QualityCertificate",
    "Verdict",
    "certify_parity",
    "certify_quality",
    "parity_rows",
    "quality_rows",
    "verdict_of",
]

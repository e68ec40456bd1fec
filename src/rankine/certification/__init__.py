"""Stage 5: the statistics that let a variant be served.

``certify_quality`` compares a compiled variant with its baseline, once, on its primary engine; ``certify_parity``
compares any other engine with the primary one, wherever it runs.
"""

from rankine.certification.certificate import QualityCertificate
from rankine.certification.margins import Margins
from rankine.certification.metric_tests import Verdict, verdict_of
from rankine.certification.parity import ParityCertificate, certify_parity
from rankine.certification.quality import certify_quality
from rankine.certification.render import fact_rows, metric_table, parity_rows, slice_table, summary, verdict_rows
from rankine.certification.settings import CertifySettings

__all__ = [
    "CertifySettings",
    "Margins",
    "ParityCertificate",
    "QualityCertificate",
    "Verdict",
    "certify_parity",
    "certify_quality",
    "fact_rows",
    "metric_table",
    "parity_rows",
    "slice_table",
    "summary",
    "verdict_of",
    "verdict_rows",
]

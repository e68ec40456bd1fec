"""Decisions without I/O and without clocks: cost model, batching, admission, ladder, placement.

The server and the simulator call the same functions. Each decision carries a :class:`~rankine.policy.reason.Reason`.
"""

from rankine.policy.admission import Admission, Gates, admit
from rankine.policy.backlog import Backlog, Decision, Slice
from rankine.policy.batching import Limits, Waiting, form_batch
from rankine.policy.cost import CostModel, Prediction
from rankine.policy.ladder import Ladder, Rung
from rankine.policy.placement import place
from rankine.policy.reason import Reason

__all__ = [
    "Admission",
    "Backlog",
    "CostModel",
    "Decision",
    "Gates",
    "Ladder",
    "Limits",
    "Prediction",
    "Reason",
    "Rung",
    "Slice",
    "Waiting",
    "admit",
    "form_batch",
    "place",
]

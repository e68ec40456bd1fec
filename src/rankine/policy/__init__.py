"""Pure decisions, no I/O: cost model, batching, admission, ladder, placement."""

from rankine.policy.admission import Admission, admit
from rankine.policy.batching import Decision, Waiting, form_batch

__all__ = ["Admission", "Decision", "Waiting", "admit", "form_batch"]

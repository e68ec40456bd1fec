"""Pure decisions, no I/O: cost model, batching, admission, ladder, placement."""

from rankine.policy.by_rows import Admission, Decision, Waiting, admit, form_batch

__all__ = ["Admission", "Decision", "Waiting", "admit", "form_batch"]

"""Stage 1: the fit loop with early stopping, with labels or with a teacher."""

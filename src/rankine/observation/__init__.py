"""Stage 8: load generators, records, reports."""

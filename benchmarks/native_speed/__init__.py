"""The native engine against all others: what `native_latency.py` runs, one file a section."""

"""Fixed numbers of rows: a batch is padded to one that an engine was built for, a larger one runs in parts."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ROW_BUCKETS", "bucket_parts"]

ROW_BUCKETS = (1, 16, 64, 256, 1024)
"""What an accelerator with fixed shapes is built for where the target names nothing."""


def bucket_parts(rows: int, buckets: Sequence[int]) -> list[int]:
    """Buckets that hold ``rows`` rows, one after the other: the largest, then the least that holds the rest.

    Args:
        buckets: ascending.
    """
    whole, rest = divmod(rows, buckets[-1])
    return [buckets[-1]] * whole + ([next(one for one in buckets if one >= rest)] if rest else [])

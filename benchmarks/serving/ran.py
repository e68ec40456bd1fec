"""What Rankine's server tells of the batches that it has run."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.request import urlopen


@dataclass(frozen=True)
class Ran:
    """Since the server's start; ``run_s`` is of the engine's calls, with joining what they are given."""

    batches: float
    requests: float
    rows: float
    run_s: float

    def __sub__(self, before: Ran) -> Ran:
        """What ran since."""
        return Ran(
            self.batches - before.batches,
            self.requests - before.requests,
            self.rows - before.rows,
            self.run_s - before.run_s,
        )


def ran(url: str) -> Ran:
    """What a server's ``/metrics`` tells now."""
    with urlopen(f"{url}/metrics", timeout=5.0) as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    names = ("batch_requests_count", "batch_requests_sum", "batch_rows_sum", "run_seconds_sum")
    return Ran(*(float(lines[f"rankine_{name}"]) for name in names))

"""A server under load for a long time: whether its memory, descriptors or threads grow.

$ python benchmarks/serving_soak.py --work FOLDER [--minutes 15] [--rate RPS]

At 70 % of what the serving proof found that it sustains, unless a rate is given. The processes of the server are looked
at every five seconds; what they hold after a warm-up is put on a line by the median of all slopes between two samples
(Theil & Sen), so that a spike is no growth. The bar: memory grows by less than 2 %, descriptors and threads not at all.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import numpy as np
import psutil
from serving.contestants import CONTESTANTS
from serving.drive import Drive
from serving.endurance import Sample, Soak
from serving.files import write_record
from serving.models import open_served
from serving.options import serving_parser
from serving.peers.own import OWN
from serving.peers.peer import Place
from serving.queries import Mix, draw_queries
from serving.record import Contest, read_result
from serving.standing import standings

from rankine.environment import environment
from rankine.errors import UsageError

RESULTS = Path(__file__).resolve().parent / "results"
SHARE, EVERY_S, WARMUP_S = 0.7, 5.0, 120.0


def main() -> None:
    given = _parser().parse_args()
    served = open_served(given.model, given.work, compressed=given.compressed, data_root=given.data_root)
    mix = Mix()
    rate_rps = given.rate or _usual_rate(given.model, mix)
    queries = draw_queries(served.users, served.item_ids, mix, seed=given.seed)
    place = Place(Path(), given.server_cores, given.work / "servers" / "soak")
    duration_s = 60 * given.minutes
    with CONTESTANTS[OWN.name].start(served, place, OWN.settings) as running:
        drive = Drive(running, queries, "exponential", mix.deadline_ms, given.generator_cores, given.seed)
        with Watch() as watch:
            found = drive.record(*drive.open(rate_rps, duration_s))
    warmup_s = min(WARMUP_S, duration_s / 3)
    memory, descriptors, threads = growths(watch.samples, warmup_s)
    soak = Soak(
        model=given.model,
        rate_rps=rate_rps,
        duration_s=duration_s,
        warmup_s=warmup_s,
        requests=found.requests,
        outcomes=found.outcomes,
        p99_ms=found.latency.p99_ms if found.latency else None,
        memory_growth=memory,
        descriptors_growth=descriptors,
        threads_growth=threads,
        samples=tuple(watch.samples),
        created=datetime.now(UTC),
        environment=environment(),
    )
    write_record(given.out, soak)
    print(f"memory {memory:+.2%}, descriptors {descriptors:+.1f}, threads {threads:+.1f}, {soak.outcomes}")
    print("met" if soak.met else "missed")


class Watch:
    """Samples of this process's children, while the context is open."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.samples: list[Sample] = []
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        start_s = monotonic()
        while not self._ended.wait(self._every_s):
            found = [_held(child) for child in psutil.Process().children(recursive=True)]
            held = [sum(values) for values in zip(*found, strict=True)]
            if held:
                self.samples.append(Sample(monotonic() - start_s, *held))


def _held(process: psutil.Process) -> tuple[int, int, int]:
    with process.oneshot():
        return process.memory_info().rss, process.num_fds(), process.num_threads()


def growths(samples: Sequence[Sample], warmup_s: float) -> tuple[float, float, float]:
    """Of memory (relative), descriptors and threads, from the end of the warm-up to the last sample.

    Raises:
        UsageError: there are fewer than three samples after the warm-up.
    """
    values = np.array([one for one in samples if one.at_s >= warmup_s], np.float64)
    if len(values) < 3:
        raise UsageError("too few samples to see growth", where="minutes", got=len(values), allowed="three or more")
    at_s = values[:, 0]
    rss, descriptors, threads = (slope(at_s, column) * (at_s[-1] - at_s[0]) for column in values[:, 1:].T)
    return rss / float(np.median(values[:3, 1])), descriptors, threads


def slope(at_s: np.ndarray, values: np.ndarray) -> float:
    """The median of the slopes between any two points (Theil 1950, Sen 1968)."""
    first, second = np.triu_indices(len(at_s), 1)
    return float(np.median((values[second] - values[first]) / (at_s[second] - at_s[first])))


def _usual_rate(model: str, mix: Mix) -> float:
    contest = Contest(model=model, traffic="exponential", candidates=mix.candidates)
    found = standings(read_result(RESULTS / "serving-proof.json"), contest).get(OWN.name)
    if found is None or not found.sustained_rps:
        raise UsageError("the serving proof has not found what it sustains", where=model, hint="Give --rate.")
    return SHARE * found.sustained_rps


def _parser() -> argparse.ArgumentParser:
    parser = serving_parser(__doc__, RESULTS / "serving-soak.json")
    parser.add_argument("--model", choices=("big", "small"), default="small")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, help="requests per second")
    return parser


if __name__ == "__main__":
    main()

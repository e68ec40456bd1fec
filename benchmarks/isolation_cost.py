"""What a worker process costs a batch: the same batches in this process and in a worker process, one after the other.

    python benchmarks/isolation_cost.py ARTIFACT [--calls 500]

Prints medians in microseconds; the difference is paired, so what slows the machine for a while slows both.

Less than a minute, on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter

import numpy as np
from script import existing_artifact, run_script

from rankine.compilation.engine import Runner
from rankine.models.columns import Batch
from rankine.serving.config import ServeConfig
from rankine.serving.isolation.isolate import isolate_devices
from rankine.serving.model import open_model
from rankine.serving.warm import warm_works
from rankine.serving.work import Work, join


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=existing_artifact, help="a compiled artifact")
    parser.add_argument("--calls", type=int, default=500, help="of each size of batch [default: 500]")
    arguments = parser.parse_args()
    config = ServeConfig(artifact=arguments.artifact, allow_uncertified=True, isolate=True, spare_workers=0)
    model = open_model(config)
    [device] = isolate_devices(model, config, print)
    if device.seats is None or not device.seats.ready(60):
        raise SystemExit("no worker process has started")
    tasks = len(model.schema.tasks)
    works = {work.rows: work for work in reversed(warm_works(model, 2048)) if work.items is model.items}
    for rows, work in sorted(works.items()):
        here, there = paired(model.runner, device.rungs[0].runner, work, tasks, arguments.calls)
        added = float(np.median(there - here))
        print(
            f"{rows:5d} rows: here {np.median(here):7.1f} us, in a worker {np.median(there):7.1f}, added {added:6.1f}"
        )
    device.seats.close()
    model.runner.close()


def paired(here: Runner, there: Runner, work: Work, tasks: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds ``(calls,)`` of the same batch on both."""
    batch = join([work], here.complete)
    out = np.empty((batch.rows, tasks), np.float32)
    spent = np.array([[timed(runner.run, batch, out) for runner in (here, there)] for _ in range(calls)])
    return spent[:, 0], spent[:, 1]


def timed(run: Callable[[Batch, np.ndarray], None], batch: Batch, out: np.ndarray) -> float:
    begin = perf_counter()
    run(batch, out)
    return 1e6 * (perf_counter() - begin)


if __name__ == "__main__":
    run_script(main)

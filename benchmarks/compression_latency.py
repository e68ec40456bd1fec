"""Time what `compression.py` certified beside its baseline: all engines in turn, one thread, 1, 64 and 512 rows.

$ python benchmarks/compression_latency.py --work /tmp/compression --only dcn_v2,dcn_v2_wide --data-root ../shared/data

For a quiet machine: a run whose control moved is done again, and one that never was quiet is kept with `noisy: true`.
One result file a family in benchmarks/results/compression-latency/, written anew every time.

A few minutes a family on one core.
"""

from __future__ import annotations

from pathlib import Path

from compression_sizes import SIZES
from families_quality import FAMILIES, arguments_for, open_data
from script import run_script

from rankine.artifact import Artifact
from rankine.compilation.compile import build_names
from rankine.data import Dataset
from rankine.models.variant import BASELINE
from rankine.observation.engines import PROFILE_ROWS, EngineBench, bench_engines
from rankine.planning.optimize import verification_rows

RESULTS = Path(__file__).resolve().parent / "results" / "compression-latency"
VARIANTS = (BASELINE, "small-fp32", "small-int8")
"""What `compression.py` makes of a recipe with the name ``small``."""
ATTEMPTS = 3
REPEATS = 300


def main() -> None:
    arguments = arguments_for(__doc__, SIZES, made_by="compression.py").parse_args()
    for name in arguments.only:
        compressed = arguments.work / name / "compressed"
        if not compressed.exists():
            print(f"{name}: {compressed} is not there; make it with benchmarks/compression.py", flush=True)
            continue
        found = run(Artifact.open(compressed), open_data(FAMILIES[name], arguments.data_root))
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(f"{name}: control moved by {found.control_spread:.3f}", flush=True)
        for line in found.table_rows():
            print("   ", *line.values(), flush=True)


def run(artifact: Artifact, dataset: Dataset) -> EngineBench:
    """The quietest of a few runs: the first whose control held still, else the one whose control moved least."""
    rows = verification_rows(artifact, dataset)
    batches = {count: rows.select(slice(0, count)) for count in PROFILE_ROWS}
    pairs = [(variant, engine) for variant in VARIANTS for engine in build_names(artifact, variant)]
    found: list[EngineBench] = []
    while len(found) < ATTEMPTS and all(one.noisy for one in found):
        found.append(bench_engines(artifact, batches, pairs=pairs, repeats=REPEATS))
    return min(found, key=lambda one: one.control_spread)


if __name__ == "__main__":
    run_script(main)

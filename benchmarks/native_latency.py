"""The native engine against all others: one thread, sides in turn in one process, medians, with a control.

$ python benchmarks/native_latency.py [--only SECTION] [--repeats N] [--artifacts FOLDER] [--out FILE]

whole: DCN-v2 (big) on every engine, 1 to 512 rows. split: the same in parts, 2 GB stored of items. families: DLRM,
DeepFM, Wide&Deep, DIN, MMoE. certified: variants of `compression.py` against their baseline in PyTorch eager
(`--artifacts` is its work folder). threads: two that call at once (needs two cores). peak: how much of the processor's
INT8 peak an MLP reaches. A section that is run replaces its part of the result file, the others stay. Sections but
`threads` are for one pinned core: `taskset -c 0 python benchmarks/native_latency.py --only whole`.

About six minutes for all sections, and 4 GB of memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from native_speed.certified import run_certified
from native_speed.options import Options
from native_speed.peak import run_peak
from native_speed.record import Section, write_section
from native_speed.shapes import families
from native_speed.split import run_split
from native_speed.threads import run_threads
from native_speed.whole import run_families, run_whole
from script import existing_folder, new_file, run_script

OUT = Path(__file__).resolve().parent / "results" / "native-latency.json"
SECTIONS: Mapping[str, Callable[[Options], Section | None]] = {
    "whole": run_whole,
    "split": run_split,
    "families": run_families,
    "certified": run_certified,
    "threads": run_threads,
    "peak": run_peak,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; may be given several times")
    parser.add_argument("--repeats", type=int, default=60, help="turns of each race")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="stored of items, in the section split")
    parser.add_argument(
        "--artifacts", type=existing_folder, help="work folder of compression.py, for the section certified"
    )
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder with ml-1m, ...")
    models = [shape.name for shape in families()]
    listed = ", ".join(map(repr, models))
    parser.add_argument(
        "--models", nargs="+", choices=models, default=(), metavar="NAME", help=f"of the section families: {listed}"
    )
    parser.add_argument("--out", type=new_file, default=OUT, help="[default: the committed result]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = Options(given.repeats, given.gigabytes, given.artifacts, given.data_root, tuple(given.models))
    for name in given.only or SECTIONS:
        section = SECTIONS[name](options)
        if section is not None:
            write_section(given.out, name, section)


if __name__ == "__main__":
    run_script(main)

"""Criteo-shaped text of any size: is it transformed and trained on in bounded memory, and how fast?

    python benchmarks/criteo_stream.py [--rows 10000000] [--out benchmarks/results/criteo-stream.json]

Writes tab-separated logs with the cardinalities of the Kaggle set, Zipf-distributed categories, missing values and a
planted label into a temporary folder. A child process then reads them as `rankine train` would, fits transforms,
encodes and trains one epoch; its memory is measured from outside (resident, and of that anonymous: what is not a page
of a file that the kernel can drop). Exit status 0 where the peak of all of it stayed under 4 GB, else 1.

Needs 6 GB in the temporary folder or in --folder; five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import pyarrow
from pyarrow import csv
from script import existing_folder, new_file, run_script

LIMIT_BYTES = 4 * 10**9
CHUNK_ROWS = 250_000
# Distinct values of C1 to C26 in the Kaggle set, the largest ones cut to a million.
CARDINALITIES = (
    *(1_460, 583, 1_000_000, 1_000_000, 305, 24, 12_517, 633, 3, 93_145, 5_683, 1_000_000, 3_194),
    *(27, 14_992, 1_000_000, 10, 5_652, 2_173, 4, 1_000_000, 18, 15, 286_181, 105, 142_572),
)
COUNTS = 13
MODEL = {"architecture": "dcn_v2", "embedding_dim": 8, "cross_layers": 2, "hidden": [128, 64]}


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="[default: 10 million]")
    parser.add_argument("--buckets", type=int, default=100_000, help="that a field is hashed to [default: 100,000]")
    parser.add_argument("--batch-rows", type=int, default=16_384, help="of the training [default: 16,384]")
    parser.add_argument("--out", type=new_file, help="result file [default: it is only printed]")
    parser.add_argument("--folder", type=existing_folder, help="where text and encoded rows are written")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _train(options.child, options.buckets, options.batch_rows)
    with tempfile.TemporaryDirectory(prefix="rankine-criteo-", dir=options.folder) as scratch:
        result = _measure(Path(scratch), options)
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["peak_rss_bytes"] < LIMIT_BYTES else 1


def _measure(scratch: Path, options: argparse.Namespace) -> dict[str, object]:
    from rankine.environment import environment

    begin = perf_counter()
    text = scratch / "day_0.tsv"
    best_auc = write_logs(text, options.rows)
    generated_s = perf_counter() - begin
    child_out = scratch / "child.json"
    command = [sys.executable, __file__, "--child", str(text), "--buckets", str(options.buckets)]
    command += ["--batch-rows", str(options.batch_rows)]
    environ = {**_without_cache(), "TMPDIR": str(scratch)}
    with child_out.open("w") as out:
        child = subprocess.Popen(command, stdout=out, env=environ)
        memory = _Memory(child.pid)
        status = child.wait()
        memory.stop()
    if status:
        raise SystemExit(f"the child failed with status {status}")
    report = json.loads(child_out.read_text())
    phases = {
        name: {"seconds": round(seconds, 2), "rows_per_s": round(options.rows / seconds)}
        for name, seconds in report.pop("seconds").items()
    }
    return {
        "schema_version": 1,
        "rows": options.rows,
        "text_bytes": text.stat().st_size,
        "generate_seconds": round(generated_s, 1),
        "model": {**MODEL, "buckets": options.buckets, "batch_rows": options.batch_rows},
        "passes": phases,
        "best_auc": round(best_auc, 5),
        **report,
        "peak_rss_bytes": max(memory.peak_rss, report["peak_rss_kernel_bytes"]),
        "peak_anonymous_bytes": memory.peak_anonymous,
        "limit_bytes": LIMIT_BYTES,
        "environment": environment(),
    }


class _Memory:
    """Samples the memory of a process every 50 ms."""

    def __init__(self, pid: int) -> None:
        self.peak_rss, self.peak_anonymous = 0, 0
        self._stopped = threading.Event()
        self._status = Path(f"/proc/{pid}/status")
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopped.is_set():
            try:
                fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
            except (FileNotFoundError, ProcessLookupError):
                return
            self.peak_rss = max(self.peak_rss, _bytes(fields.get("VmRSS")))
            self.peak_anonymous = max(self.peak_anonymous, _bytes(fields.get("RssAnon")))
            sleep(0.05)


def _bytes(field: str | None) -> int:
    return int(field.split()[0]) * 1024 if field else 0


def _without_cache() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("RANKINE_CACHE",)}


def _train(text: Path, buckets: int, batch_rows: int) -> int:
    """The child: what `rankine train` does, pass by pass; prints what each took."""
    import resource

    import torch

    from rankine.data.criteo import criteo_schema, stream_criteo
    from rankine.metrics import auc
    from rankine.models.zoo import build_model
    from rankine.training.fit import Examples, FitConfig, fit, predict_logits

    seconds: dict[str, float] = {}

    def timed(name: str, begin: float) -> None:
        seconds[name] = perf_counter() - begin

    begin = perf_counter()
    dataset = stream_criteo(text, criteo_schema(buckets))
    timed("scan", begin)
    begin = perf_counter()
    splits = dataset.splits()
    transforms = dataset.fit_transforms(splits.train)
    timed("fit", begin)
    begin = perf_counter()
    rows = dataset.encode(transforms)
    timed("encode", begin)
    torch.manual_seed(0)
    model = build_model(dataset.schema, transforms.table_rows(), MODEL)
    begin = perf_counter()
    result = fit(
        model,
        Examples(rows.select(splits.train), dataset.labels[splits.train]),
        Examples(rows.select(splits.validation), dataset.labels[splits.validation]),
        FitConfig(max_epochs=1, batch_rows=batch_rows, average_decay=0.98),
    )
    timed("train", begin)
    test_auc = auc(dataset.labels[splits.test][:, 0], predict_logits(model, rows.select(splits.test))[:, 0])
    report = {
        "seconds": seconds,
        "validation_auc": round(result.validation_auc, 5),
        "test_auc": round(test_auc, 5),
        "peak_rss_kernel_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(report))
    return 0


def write_logs(path: Path, rows: int, seed: int = 0) -> float:
    """Write logs of ``rows`` lines, chunk by chunk; the AUC of the model that made the labels.

    A label's logit is a sum over fields of an effect of the value, and of one product of two fields. Between none and
    nearly half of a field's values are missing, as in the Kaggle set.
    """
    rng = np.random.default_rng(seed)
    texts = [pyarrow.array(_hexadecimal(rng, size)) for size in CARDINALITIES]
    effects = [rng.normal(size=size) * 0.35 for size in CARDINALITIES]
    slopes = rng.normal(size=COUNTS) * 0.12
    missing = rng.uniform(0.0, 0.45, len(CARDINALITIES) + COUNTS) * (rng.random(len(CARDINALITIES) + COUNTS) < 0.6)
    sample: list[tuple[np.ndarray, np.ndarray]] = []
    with path.open("wb") as out:
        for start in range(0, rows, CHUNK_ROWS):
            n = min(CHUNK_ROWS, rows - start)
            columns, logits = _chunk(rng, n, texts, effects, slopes, missing)
            labels = (rng.random(n) < 1 / (1 + np.exp(1.2 - logits))).astype(np.int8)
            table = pyarrow.table({"label": labels, **columns})
            csv.write_csv(table, out, csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"))
            if len(sample) < 8:
                sample.append((labels, logits))
    return _auc(np.concatenate([labels for labels, _ in sample]), np.concatenate([logits for _, logits in sample]))


def _chunk(
    rng: np.random.Generator,
    rows: int,
    texts: list[pyarrow.Array],
    effects: list[np.ndarray],
    slopes: np.ndarray,
    missing: np.ndarray,
) -> tuple[dict[str, pyarrow.Array], np.ndarray]:
    """Columns I1 to I13 and C1 to C26, and the logits."""
    columns: dict[str, pyarrow.Array] = {}
    logits = np.zeros(rows)
    for field in range(COUNTS):
        gone = rng.random(rows) < missing[field]
        counts = np.expm1(rng.gamma(2.0, 1.0 + field % 4, rows)).clip(0, 1e6).astype(np.int64) - (field == 1) * 2
        columns[f"I{field + 1}"] = pyarrow.array(counts, mask=gone)
        logits += slopes[field] * np.log1p(np.where(gone, 0, counts).clip(0))
    kept = []
    for field, size in enumerate(CARDINALITIES):
        # Of density 1 / rank: Zipf's law with exponent one, bounded, by its inverse.
        ranks = (size ** rng.random(rows)).astype(np.int64) - 1
        gone = rng.random(rows) < missing[COUNTS + field]
        columns[f"C{field + 1}"] = texts[field].take(pyarrow.array(ranks, mask=gone))
        found = np.where(gone, 0.0, effects[field][ranks])
        logits += found
        kept.append(found)
    return columns, logits + 4.0 * kept[0] * kept[1]


def _hexadecimal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Distinct texts of eight digits."""
    # An odd multiplier is a bijection of the 32-bit numbers.
    numbers = np.arange(size, dtype=np.uint64) * np.uint64(int(rng.integers(2**31)) * 2 + 1) % np.uint64(2**32)
    return np.array([f"{number:08x}" for number in numbers.tolist()])


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    from rankine.metrics import auc

    return auc(labels, scores)


if __name__ == "__main__":
    run_script(main)

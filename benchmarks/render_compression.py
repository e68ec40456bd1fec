"""Render the committed results of compression into docs/reference/compression.md, and their summary into README.md.

$ python benchmarks/render_compression.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from readme_block import folded, write_block

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "compression"
LATENCY = ROOT / "benchmarks" / "results" / "compression-latency"
SEARCH = ROOT / "benchmarks" / "results" / "search"
FOREIGN = ROOT / "benchmarks" / "results" / "foreign-compression"
PAGE = ROOT / "docs" / "reference" / "compression.md"
STOCK = ("onnxruntime", "openvino")
INTRODUCTION = """\
# Compressed models

Families of the zoo, each trained on its data until validation AUC stopped improving, compressed by one recipe
([benchmarks/recipes](../../benchmarks/recipes)), and certified on test rows: AUC, normalized entropy, calibration,
and, where users are known, AUC and NDCG@10 within users, each at its margin ([how](../explanation/certificates.md)).

This page is rendered by `python benchmarks/render_compression.py` from the files in
[benchmarks/results](../../benchmarks/results), which `benchmarks/compression.py`, `benchmarks/compression_sizes.py`,
`benchmarks/compression_latency.py`, `benchmarks/compression_search.py` and `benchmarks/foreign_compression.py` make. Do
not edit it.
"""
LEGEND = """\
*MACs* are multiply-adds of the dense graph for one row, *bytes* its weights and the tables as they are stored; both as
shares of the baseline's. *AUC* is the change on the test split with its one-sided 95 % lower bound; the verdict is that
of all metrics together.
"""
FAST = """\
## Latency

Milliseconds of one call with 512 rows, table lookups included, in one thread: medians with quartiles. All columns of a
row were timed in turn in one run. *Share* is the median beside PyTorch eager's, the baseline as its owners run it; *of
the best* beside the faster of ONNX Runtime and OpenVINO on the same uncompressed baseline. *INT8* is the variant of
the first table; *FP32* the same student before quantization, tested in the same run. *Control* is how far a fixed piece
of NumPy moved in that run (quartiles, of its median): above 10 % the run is called noise.
"""
HONESTY = """\
## Could a small network have been trained right away?

For each family: networks trained from scratch on the labels with the baseline's own settings, in the sizes of
`benchmarks/compression_sizes.py`, up to the baseline's own sizes with another seed. Each is tested alone, at the full
level, without correction for their number: that is generous to them. *Smallest that certifies* is the one with the
fewest multiply-adds whose certificate passed.
"""
REFUSED = """\
## The gate refuses

A student that is too small, distilled and quantized like the others, in the same run and under the same procedure.
"""
SEARCHED = """\
## Found by search

`rankine optimize --search` with the space of the model and nothing said of sizes. It ends in a ladder: variants
certified at increasing margins, each the cheapest at its own. Latency is of 512 rows, beside the baseline in PyTorch
eager, as the search timed it on the machine as it was. Every search was interrupted and taken up again, and done a
second time from nothing.
"""
ELSEWHERE = """\
## Models that were written elsewhere

Models of `deepctr-torch`, trained by the library until validation AUC stopped improving, brought in by `rankine load`
and compressed on their graph alone: nothing is known of their architecture.
"""


def render(
    results: Mapping[str, Mapping[str, Any]],
    latency: Mapping[str, Mapping[str, Any]],
    searches: Mapping[str, Mapping[str, Any]],
    foreign: Mapping[str, Mapping[str, Any]],
) -> str:
    """The page from the result files, by family and by model."""
    lines = [INTRODUCTION]
    if not results and not foreign:
        lines += ["No results are committed yet."]
    if results:
        lines += [
            *_families(results),
            "",
            LEGEND,
            *_provenance(results),
            HONESTY,
            *_scratch(results),
            "",
            REFUSED,
            *_refused(results),
        ]
    if latency:
        lines += ["", FAST, *_latency(latency)]
    if searches:
        lines += ["", SEARCHED, *_searches(searches)]
    if foreign:
        lines += ["", ELSEWHERE, *_foreign(foreign)]
    return "\n".join(lines).rstrip() + "\n"


def summary(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The block of README.md: what became of every family, and what a network from scratch needs."""
    if not results:
        return "No results are committed yet."
    head = ("family", "data", "MACs", "bytes", "AUC change", "lower bound", "margin", "from scratch: MACs")
    rows = []
    for name, result in results.items():
        one, smallest = _worst(result["ours"]["certificates"]), _smallest(result)
        share = "none certified" if smallest is None else _share(smallest["size"], result["baseline"], "macs")
        verdict = "" if _passed(result["ours"]["certificates"]) else f" (**{one['verdict']}**)"
        shares = _shares(result)
        rows.append((f"`{name}`", result["dataset"], *shares, *_change(one), f"{result['margin']:g}{verdict}", share))
    return "\n".join(_table(head, rows))


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """All result files, in the order of their names."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def _families(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = (
        "family",
        "data",
        "task",
        "test AUC",
        "MACs",
        "bytes",
        "AUC",
        "bound",
        "margin",
        "verdict",
        "engine",
    )
    rows = [
        (
            f"`{name}`",
            result["dataset"],
            one["task"],
            f"{_auc(one)['baseline']:.5f}",
            *_shares(result),
            *_change(one),
            f"{result['margin']:g}",
            f"**{one['verdict']}**",
            one["engine"],
        )
        for name, result in results.items()
        for one in result["ours"]["certificates"]
    ]
    return _table(head, rows)


def _provenance(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What certificates say of their recipe that is not so: two recipes of one run have one hash there."""
    wrong = [f"`{name}`" for name, found in results.items() if _recipes(found["ours"]) & _recipes(found["too_small"])]
    if not wrong:
        return []
    told = (
        f"The certificates in the files of {', '.join(wrong)} name the last recipe of their run, that of the student "
        "that is too small: they were made before every variant kept its own. The recipe of the file is the right one; "
        "all else in them is of the variant."
    )
    return [folded(told), ""]


def _recipes(made: Mapping[str, Any]) -> set[str]:
    """Hashes of the recipes that certificates name."""
    return {one["provenance"]["recipe"] for one in made["certificates"]}


def _scratch(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = (
        "family",
        "compressed: MACs",
        "smallest from scratch that certifies: MACs",
        "its AUC",
        "fewer MACs",
        "tried",
    )
    rows = []
    for name, result in results.items():
        ours = int(result["ours"]["size"]["macs_per_row"])
        smallest = _smallest(result)
        rows.append(
            (
                f"`{name}`",
                f"{ours:,}",
                "none" if smallest is None else f"{smallest['size']['macs_per_row']:,}",
                "" if smallest is None else " ".join(_change(_worst(smallest["certificates"]))[:1]),
                "yes" if smallest is None or ours < smallest["size"]["macs_per_row"] else "**no**",
                "; ".join(_tried(one) for one in sorted(result["scratch"], key=_macs)),
            )
        )
    return _table(head, rows)


def _smallest(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The network from scratch with the fewest multiply-adds among those that certified."""
    return min((one for one in result["scratch"] if _passed(one["certificates"])), key=_macs, default=None)


def _macs(made: Mapping[str, Any]) -> int:
    return int(made["size"]["macs_per_row"])


def _tried(one: Mapping[str, Any]) -> str:
    worst = _worst(one["certificates"])
    return f"{one['size']['macs_per_row']:,}: {_change(worst)[0]} {worst['verdict']}"


def _refused(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = ("family", "MACs", "AUC", "bound", "verdict", "reason")
    rows = []
    for name, result in results.items():
        small = result["too_small"]
        worst = _worst(small["certificates"])
        share = _share(small["size"], result["baseline"], "macs")
        rows.append((f"`{name}`", share, *_change(worst), f"**{worst['verdict']}**", worst["reason"]))
    return _table(head, rows)


def _latency(latency: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = (
        "family",
        "eager",
        "baseline, best engine",
        "ours INT8",
        "share",
        "of the best",
        "ours FP32",
        "share",
        "control",
    )
    rows: list[tuple[str, ...]] = []
    for name, run in latency.items():
        eager, stock = _fastest(run, "baseline", ("eager",)), _fastest(run, "baseline", STOCK)
        ours, plain = (_fastest(run, f"small-{kind}", STOCK) for kind in ("int8", "fp32"))
        share, of_stock, plain_share = (
            f"{one['p50_ms'] / other['p50_ms']:.3f}" for one, other in ((ours, eager), (ours, stock), (plain, eager))
        )
        control = f"{run['control_spread']:.1%}{', **noise**' if run['noisy'] else ''}"
        times = [
            f"{one['p50_ms']:.3f} ({one['p25_ms']:.3f}-{one['p75_ms']:.3f})" for one in (eager, stock, ours, plain)
        ]
        named = [f"{time} {one['engine']}" for time, one in zip(times[1:], (stock, ours, plain), strict=True)]
        rows.append(
            (
                f"`{name}`",
                times[0],
                named[0],
                named[1],
                share if run["noisy"] else f"**{share}**",
                of_stock,
                named[2],
                plain_share,
                control,
            )
        )
    return _table(head, rows)


def _fastest(run: Mapping[str, Any], variant: str, engines: Sequence[str]) -> Mapping[str, Any]:
    """The timing of a variant's fastest engine at 512 rows."""
    found = [
        one
        for one in run["timings"]
        if one["variant"] == variant and one["engine"] in engines and one["rows"] == 512 and one["error"] is None
    ]
    return min(found, key=lambda one: float(one["p50_ms"]))


def _searches(searches: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, found in searches.items():
        ladder, stop = found["ladder"], found["interruption"]
        head = ("margin", "recipe", "MACs", "bytes", "latency", "AUC", "bound")
        rows = []
        for rung in ladder["rungs"]:
            passes = ", ".join(one["type"] for one in found["recipes"][rung["variant"]]["passes"])
            shares = [f"{rung[what] / ladder['baseline'][what]:.1%}" for what in ("macs_per_row", "size_bytes")]
            latency = f"{rung['p50_ms']['512'] / ladder['baseline']['p50_ms']['512']:.3f}"
            rows.append(
                (f"{rung['margin']:g}", passes, *shares, latency, f"{rung['delta']:+.5f}", f"{rung['ci_low']:+.5f}")
            )
        told = (
            f"`{name}` on {found['dataset']}, target `{found['target']}`. The first search was interrupted with "
            f"{stop['kept']} evaluations on disk, of which {stop['untouched']} were not done again. The second made "
            f"{found['evaluations']} in {found['seconds'][1] / 60:.0f} minutes on one core, and "
            f"{'gave the same ladder, down to the weights' if found['same'] else '**gave another ladder**'}."
        )
        lines += ["", folded(told), "", *_table(head, rows)]
    return lines[1:]


def _foreign(foreign: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = ("model", "test AUC", "epochs", "MACs", "bytes", "AUC", "bound", "verdict")
    rows: list[tuple[str, ...]] = []
    for name, result in foreign.items():
        epochs = f"{len(result['history'])}{'' if result['converged'] else ', NOT converged'}"
        tested = ", ".join(f"{task} {value:.5f}" for task, value in result["test_auc"].items())
        if result["refused"]:
            reason = f"refused by {result['refused']['stage']}: {result['refused']['reason']}"
            rows.append((f"`{name}`", tested, epochs, "", "", "", "", reason))
            continue
        worst = _worst(result["certificates"])
        shares = [_share(result["size"], result["baseline"], what) for what in ("macs", "bytes")]
        rows.append((f"`{name}`", tested, epochs, *shares, *_change(worst), f"**{worst['verdict']}**"))
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _auc(certificate: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = certificate["metrics"][0]
    return found


def _change(certificate: Mapping[str, Any]) -> tuple[str, str]:
    found = _auc(certificate)
    return f"{found['delta']:+.5f}", f"{found['ci_low']:+.5f}"


def _worst(certificates: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The task that decides: the worst verdict, then the lowest bound."""
    verdicts = ("fail", "inconclusive", "pass")
    return min(certificates, key=lambda one: (verdicts.index(one["verdict"]), _auc(one)["ci_low"]))


def _passed(certificates: Sequence[Mapping[str, Any]]) -> bool:
    return bool(certificates) and all(one["verdict"] == "pass" for one in certificates)


def _shares(result: Mapping[str, Any]) -> list[str]:
    """Multiply-adds and bytes of what the recipe made."""
    return [_share(result["ours"]["size"], result["baseline"], what) for what in ("macs", "bytes")]


def _share(size: Mapping[str, Any], whole: Mapping[str, Any], what: str) -> str:
    if what == "macs":
        share = size["macs_per_row"] / whole["macs_per_row"]
        return f"{share:.2%}" if share < 0.01 else f"{share:.1%}"
    stored, before = ((one["graph_bytes"] + one["table_bytes"]) for one in (size, whole))
    return f"{stored / before:.1%}"


def main() -> None:
    results = read_results()
    PAGE.write_text(render(results, *(read_results(folder) for folder in (LATENCY, SEARCH, FOREIGN))), encoding="utf-8")
    write_block("compression", summary(results))


if __name__ == "__main__":
    main()

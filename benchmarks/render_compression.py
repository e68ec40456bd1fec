"""Render the committed results of compression into docs/reference/compression.md, and their summary into README.md.

$ python benchmarks/render_compression.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from certificate_cells import auc, change, passed, share, table, worst
from readme_block import folded, write_block
from render_honesty import honesty, smallest
from script import no_arguments

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
of all metrics together. *Adjusted p* is of the null that some metric is worse by its margin, after the variants that
were tested before it in the same run. *Uses* counts how often these test rows had been used by then, this time
included: families that share data share it.

*Served by default* is the rung of the ladder, by the sizes of its files: of the variants that certified the fastest on
the machine of that run, which can be the same student in FP32, tables included. `only_where_faster` of `quantize`,
where a recipe asks for it, keeps small tables and leaves in FP32 the layers that INT8 is predicted not to make faster.
"""
SECOND_TRIES = {
    "638fb2c64383f3365bb55a93fc4c4e165c2efe9dadf2a510abd928e7691f8483": (
        "`{family}`: this is the second recipe. A first one, with two experts of 16, lost 0.0013 AUC on these test "
        "rows and was not let through, and this one was made larger for that: the test split guided a choice once. By "
        "Bonferroni over the two, 0.025 is to be undercut: the variant's own p-value is {p_value:.4f}, that after the "
        "one before it in its run {p_adjusted:.4f}."
    )
}
"""What has to be said of a variant that no file tells, by the hash of what was served: a note goes when it does."""
FAST = """\
## Latency

Milliseconds of one call with 512 rows, table lookups included, in one thread: medians with quartiles. All columns of a
row were timed in turn in one run. *Share* is the median beside PyTorch eager's, the baseline as its owners run it; *of
the best* beside the faster of ONNX Runtime and OpenVINO on the same uncompressed baseline. *INT8* is the variant of
the first table; *FP32* the same student before quantization, tested in the same run. *Control* is how far a fixed piece
of NumPy moved in that run (quartiles, of its median): above 10 % the run is called noise.
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
        lines += [*_families(results), "", LEGEND, *_second_tries(results), *_provenance(results), *honesty(results)]
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
        one, scratch = worst(result["ours"]["certificates"]), smallest(result)
        macs = "none certified" if scratch is None else share(scratch["size"], result["baseline"], "macs")
        verdict = "" if passed(result["ours"]["certificates"]) else f" (**{one['verdict']}**)"
        shares = _shares(result)
        rows.append((f"`{name}`", result["dataset"], *shares, *change(one), f"{result['margin']:g}{verdict}", macs))
    return "\n".join(table(head, rows))


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
        "adjusted p",
        "uses of the test split",
        "engine",
        "served by default",
    )
    rows = [
        (
            f"`{name}`",
            result["dataset"],
            one["task"],
            f"{auc(one)['baseline']:.5f}",
            *_shares(result),
            *change(one),
            f"{result['margin']:g}",
            f"**{one['verdict']}**",
            _adjusted(one),
            str(one["split_uses"]),
            one["engine"],
            _served(result["ladder"]),
        )
        for name, result in results.items()
        for one in result["ours"]["certificates"]
    ]
    return table(head, rows)


def _second_tries(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, result in results.items():
        one = worst(result["ours"]["certificates"])
        if (told := SECOND_TRIES.get(one["provenance"].get("served", ""))) is not None:
            p_values = {key: one["multiplicity"][key] for key in ("p_value", "p_adjusted")}
            lines += [folded(told.format(family=name, **p_values)), ""]
    return lines


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
    return table(head, rows)


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
            reached = _reached(ladder, rung)
            small = (f"{reached['macs']:.1%}", f"{reached['bytes']:.1%}", f"{reached['latency']:.3f}")
            rows.append((f"{rung['margin']:g}", passes, *small, f"{rung['delta']:+.5f}", f"{rung['ci_low']:+.5f}"))
        told = (
            f"`{name}` on {found['dataset']}, target `{found['target']}`. The first search was interrupted with "
            f"{stop['kept']} evaluations on disk, of which {stop['untouched']} were not done again. The second made "
            f"{found['evaluations']} in {found['seconds'][1] / 60:.0f} minutes on one core, and "
            f"{'gave the same ladder, down to the weights' if found['same'] else '**gave another ladder**'}. "
            f"{_target_met(found)}"
        )
        lines += ["", folded(told), "", *table(head, rows)]
    return lines[1:]


def _reached(ladder: Mapping[str, Any], rung: Mapping[str, Any]) -> dict[str, float]:
    """What a rung takes, as shares of the baseline's."""
    baseline = ladder["baseline"]
    return {
        "latency": rung["p50_ms"]["512"] / baseline["p50_ms"]["512"],
        "macs": rung["macs_per_row"] / baseline["macs_per_row"],
        "bytes": rung["size_bytes"] / baseline["size_bytes"],
    }


def _target_met(found: Mapping[str, Any]) -> str:
    """Whether the cheapest rung within the margin that was asked for is as small as was asked."""
    asked, _, share_asked = found["target"].partition("=")
    within = [rung for rung in found["ladder"]["rungs"] if rung["margin"] <= found["margin"]]
    if not within:
        return f"**Nothing certified at the margin of {found['margin']:g}** that was asked for."
    share_reached = _reached(found["ladder"], within[-1])[asked]
    met = share_reached <= float(share_asked)
    return (
        f"At the margin of {found['margin']:g} that was asked for, the target was {'met' if met else '**missed**'}: "
        f"{asked} {share_reached:.3f}."
    )


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
        decides = worst(result["certificates"])
        shares = [share(result["size"], result["baseline"], what) for what in ("macs", "bytes")]
        rows.append((f"`{name}`", tested, epochs, *shares, *change(decides), f"**{decides['verdict']}**"))
    return table(head, rows)


def _shares(result: Mapping[str, Any]) -> list[str]:
    """Multiply-adds and bytes of what the recipe made."""
    return [share(result["ours"]["size"], result["baseline"], what) for what in ("macs", "bytes")]


def _adjusted(certificate: Mapping[str, Any]) -> str:
    """The p-value that decides among several variants."""
    among = certificate["multiplicity"]
    return "" if among is None else f"{among['p_adjusted']:.4f}"


def _served(ladder: Mapping[str, Any]) -> str:
    """The rung, and its files' share of the baseline's bytes."""
    if not ladder["rungs"]:
        return "none"
    rung = ladder["rungs"][-1]
    return f"`{rung['variant']}`, {rung['size_bytes'] / ladder['baseline']['size_bytes']:.1%} of the bytes"


def main() -> None:
    results = read_results()
    PAGE.write_text(render(results, *(read_results(folder) for folder in (LATENCY, SEARCH, FOREIGN))), encoding="utf-8")
    write_block("compression", summary(results))


if __name__ == "__main__":
    no_arguments(__doc__)
    main()

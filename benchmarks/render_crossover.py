"""Render what a device pool finds out of a simulated accelerator into docs/reference/simulated-accelerator.md.

$ python benchmarks/render_crossover.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from crossover_record import Coalesced, CrossoverResult, Learned, Live, Who
from pages import table, write_pages

from rankine.compilation.engines.simulated import SimulatedCost

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "accelerator-crossover.json"
PAGE = ROOT / "docs" / "reference" / "simulated-accelerator.md"
BAR = 0.1
HEAD = """\
# What a device pool finds out of a simulated accelerator

Rendered by `python benchmarks/render_crossover.py` from the result file of `benchmarks/accelerator_crossover.py`. Do
not edit it.

Small requests belong on the CPU, large ones on the accelerator. The *crossover* is the number of rows from which on the
pool gives a lone request to the accelerator; the optimum is where both take the same time by their true costs. Nothing
here is the time of a chip: the [accelerator is simulated](../how-to/serve-in-production.md#without-an-accelerator).
"""


def render(result: CrossoverResult) -> str:
    """The page."""
    lines = [
        HEAD,
        "## In simulated time",
        "",
        *_simulated(result),
        "## How many rows are coalesced",
        "",
        *_coalesced(result),
        "## With real threads",
        "",
        *_live(result.live, result.load),
    ]
    here = result.environment
    lines += [f"Taken on {result.created:%Y-%m-%d}, {here['cpu']}; rankine {here['rankine']}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _simulated(result: CrossoverResult) -> list[str]:
    rates = list(dict.fromkeys(one.rate_rps for one in result.learned))
    rows = []
    for wrong in dict.fromkeys(one.wrong for one in result.learned):
        cells = [one for one in result.learned if one.wrong == wrong]
        rows.append([wrong, _over(cells[0].started), *(_cell(one) for one in cells)])
    seeds = len(result.learned[0].found)
    missed = [one for one in result.learned if not _holds(one)]
    held = len(result.learned) - len(missed)
    told = f"{held} of {len(result.learned)} cells hold it in every run"
    if missed:
        told += "; not " + ", ".join(f"*{one.wrong}* at {one.rate_rps:g} requests/s" for one in missed)
    text = (
        f"The server's policies between a CPU ({_cost(result.cpu)}) and an accelerator ({_cost(result.accelerator)}), "
        f"log-normal candidates with median 150, noise of 5 %. Optimum: {result.optimum:.0f} rows. The first column is "
        "what is wrong in the profile that the server starts from; then comes the crossover over the optimum, of that "
        f"profile and after {result.requests:,} requests at each rate: the median of {seeds} runs, and their range."
    )
    verdict = (
        f"Bar: within {BAR:.0%} of the optimum. {told}. An accelerator that is believed to be slower than the CPU on "
        "whatever comes is [tried now and then](../explanation/scheduling.md#exploration): so the last row is found."
    )
    return [*wrap(text, 120), "", *table(["wrong at first", "at first", *_of(rates)], rows), *wrap(verdict, 120), ""]


def _coalesced(result: CrossoverResult) -> list[str]:
    at: dict[float, dict[Who, Coalesced]] = {}
    for one in result.coalesced:
        at.setdefault(one.rate_rps, {})[one.who] = one
    rows = [[f"{rate:,.0f}", *_cells(runs)] for rate, runs in at.items()]
    sizes = result.efficient_rows
    last = at[max(at)]
    alone, pool = last["accelerator"], last["pool"]
    text = (
        "The same two devices in simulated time, MLPerf's numbers of candidates (270 on average), deadline 50 ms, "
        f"batches of at most {result.most_rows:,} rows. The smallest batch that reaches 95 % of the peak rows per "
        f"second has {sizes['cpu']:,} rows on the CPU and {sizes['accelerator']:,} on the accelerator. Goodput of each "
        "alone, of the pool, and of a pool that starts from a profile of the accelerator that is five times too long; "
        "then mean rows of a batch in the pool, and the median latency of the accelerator alone and of the pool."
    )
    verdict = (
        f"At {max(at):,.0f} requests/s the pool answers {pool.goodput_rps / alone.goodput_rps:.2f} times what the "
        f"accelerator alone does. The CPU's batches stay small throughout, at most "
        f"{max(runs['pool'].batch_rows['cpu'] for runs in at.values()):,.0f} rows on average (a request is not cut up "
        "for it); the accelerator's grow with the load, as requests queue while it is busy: nobody ever waits for "
        "company."
    )
    head = ["requests/s", "CPU", "accelerator", "pool", "pool, misjudged", "rows: CPU", "accelerator"]
    head += ["p50 ms: accelerator", "pool"]
    return [*wrap(text, 120), "", *table(head, rows), *wrap(verdict, 120), ""]


def _cells(runs: Mapping[Who, Coalesced]) -> list[str]:
    order: tuple[Who, ...] = ("cpu", "accelerator", "pool", "misjudged")
    pool = runs["pool"]
    return [
        *(f"{runs[who].goodput_rps:,.0f}" for who in order),
        *(f"{pool.batch_rows[name]:,.0f}" for name in ("cpu", "accelerator")),
        f"{runs['accelerator'].p50_ms:.1f}",
        f"{pool.p50_ms:.1f}",
    ]


def _of(rates: Sequence[float]) -> list[str]:
    return [f"{rate:g} requests/s" for rate in rates]


def _live(runs: Sequence[Live], load: float) -> list[str]:
    rows = [
        [
            f"{one.factor:.2g} of its time",
            _over(one.started),
            *(_over(found) for found in one.found),
            f"{one.overran} of {one.calls}",
        ]
        for one in runs
    ]
    looks = len(runs[0].found)
    late = [found for one in runs for found in one.found[looks // 2 :]]
    near = sum(found is not None and abs(found - 1) <= BAR for found in late)
    median = float(np.median([np.inf if found is None else found for found in late]))
    text = (
        f"The pool of `rankine serve` in one process, lone requests one after the other, a small DCN-v2: "
        f"{_cost(runs[0].cpu)}, beside {_cost(runs[0].accelerator)}, which took another time in the warm-up. The "
        f"crossover over the optimum ({runs[0].optimum:.0f} rows) after every hundred requests. *Late*: calls whose "
        "scores the CPU computed more slowly than the accelerator would."
    )
    verdict = (
        f"In the second half of the looks the median is {median:.2f}, and {near} of {len(late)} are within {BAR:.0%}: "
        f"what takes the cores for a while (load average of the machine: {load:.1f}) is learned as well."
    )
    head = ["warmed up at", "at first", *(f"{100 * (at + 1)}" for at in range(looks)), "late"]
    return [*wrap(text, 120), "", *table(head, rows), *wrap(verdict, 120), ""]


def _holds(one: Learned) -> bool:
    return all(found is not None and abs(found - 1) <= BAR for found in one.found)


def _cell(one: Learned) -> str:
    known = [np.inf if found is None else found for found in one.found]
    return f"{float(np.median(known)):.2f} ({min(known):.2f}-{max(known):.2f})" + ("" if _holds(one) else " **missed**")


def _over(found: float | None) -> str:
    return "none" if found is None else f"{found:.2f}"


def _cost(cost: SimulatedCost) -> str:
    transfer = f", {cost.transfer_us:g} us a row's transfer" if cost.transfer_us else ""
    return f"{cost.launch_us:g} us a launch{transfer}, {cost.rows_per_ms:g} rows/ms"


def read_result() -> CrossoverResult:
    """The committed result."""
    return CrossoverResult.model_validate_json(RESULT.read_text(encoding="utf-8"))


def render_committed() -> dict[Path, str]:
    """The page of the committed result."""
    return {PAGE: render(read_result())}


if __name__ == "__main__":
    write_pages(__doc__, render_committed())

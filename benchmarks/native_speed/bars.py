"""What the native engine was to reach, and what a result file says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from native_speed.record import (
    BIG,
    CHAIN,
    CRITEO,
    EAGER,
    FROM_NATIVE_CODE,
    MOVIELENS,
    NNCF,
    NOISE_LIMIT,
    NativeLatency,
    Section,
    Timing,
)

SPEEDUP_WHOLE, SPEEDUP_SPLIT = 1.5, 2.5
RATIO_MOVIELENS, RATIO_CRITEO = 0.03, 0.05
CERTIFIED_MARGIN = 0.001
PEAK_SHARE = 0.6
ONE_ROW_MS = 0.025
NATIVE_CODE_US = 15.0
SCALING = 1.8
FAMILY_MODELS = ("dlrm", "deepfm", "wide_deep", "din", "mmoe")


@dataclass(frozen=True)
class Bar:
    """One line of what was to be reached.

    Attributes:
        reached: None where it was not measured, and where no bar was set.
        noisy: whether the control of a run that it rests on moved too far.
    """

    name: str
    bar: str
    measured: str = "not measured"
    reached: bool | None = None
    noisy: bool = False


def bars(result: NativeLatency) -> list[Bar]:
    """All lines, in the order in which they were set."""
    return [
        _whole(result),
        _split(result, "zipf", f"at least {SPEEDUP_SPLIT:g} times as fast; aim 3"),
        _split(result, "uniform", "reported"),
        *(_few_rows(result, rows) for rows in (1, 16)),
        _certified(result, MOVIELENS, RATIO_MOVIELENS),
        _certified(result, CRITEO, RATIO_CRITEO),
        _peak(result),
        _families(result),
        _from_native_code(result),
        _one_row(result, "warm", f"at most {1e3 * ONE_ROW_MS:g} µs"),
        _one_row(result, "cold", "reported"),
        _threads(result),
    ]


def is_noisy(control: float) -> bool:
    """Whether a control moved so far that its run is noise."""
    return abs(control - 1) > NOISE_LIMIT


def _whole(result: NativeLatency) -> Bar:
    bar = Bar(
        "DCN-v2 (big), 512 rows, no split, INT8, against OpenVINO INT8 (NNCF)",
        f"at least {SPEEDUP_WHOLE:g} times as fast; aim 1.8",
    )
    found = _native(result, "whole", BIG, lambda one: one.rows == 512 and one.side.numeric == "int8")
    return _beside_peak(_against_nncf(bar, found, SPEEDUP_WHOLE), found, result)


def _beside_peak(bar: Bar, found: list[Timing], result: NativeLatency) -> Bar:
    """The bar, and beside what was measured what a processor at its peak would reach: no engine is faster than that."""
    facts = _facts(result, "whole", BIG)
    operations, peak = facts.get("operations_per_row"), facts.get("peak_operations_per_s")
    if operations is None or peak is None or not found:
        return bar
    [one] = found
    at_peak_ms = 1e3 * float(operations) * one.rows / float(peak)
    return replace(bar, measured=f"{bar.measured}; at the INT8 peak: {one.median_ms / one.ratio / at_peak_ms:.2f}")


def _split(result: NativeLatency, ids: str, told: str) -> Bar:
    """In the faster of the storage types; all are in the tables."""
    stored = _native(result, "split", BIG, lambda one: (one.rows, one.ids, one.side.numeric) == (512, ids, "int8"))
    found = [min(stored, key=lambda one: one.ratio)] if stored else []
    storage = found[0].side.storage if found else "FP32 or FP16"
    bar = Bar(f"the same with the split, {ids} ids, stored in {storage}", told)
    return _against_nncf(bar, found, SPEEDUP_SPLIT if ids == "zipf" else None)


def _against_nncf(bar: Bar, found: list[Timing], least: float | None) -> Bar:
    found = [one for one in found if one.baseline == NNCF]
    if not found:
        return bar
    [one] = found
    text = f"{1 / one.ratio:.2f} times ({1 / one.ratio_high:.2f}-{1 / one.ratio_low:.2f})"
    return Bar(bar.name, bar.bar, text, None if least is None else 1 / one.ratio >= least, is_noisy(one.control))


def _few_rows(result: NativeLatency, rows: int) -> Bar:
    bar = Bar(
        f"DCN-v2 (big), {rows} row{'s' if rows > 1 else ''}, against ONNX Runtime and OpenVINO in their fastest forms",
        "faster",
    )
    timings = [one for one in _timings(result, "whole") if one.rows == rows]
    ours = _fastest(one for one in timings if one.side.engine == "native")
    others = _fastest(one for one in timings if one.side.engine in ("onnxruntime", "openvino"))
    if ours is None or others is None:
        return bar
    text = f"{others.median_ms / ours.median_ms:.2f} times as fast as {others.side.label}"
    return Bar(bar.name, bar.bar, text, ours.median_ms < others.median_ms, is_noisy(ours.control))


def _certified(result: NativeLatency, model: str, most: float) -> Bar:
    bar = Bar(
        f"{model}, 512 rows: the fastest variant certified at {CERTIFIED_MARGIN:g}, in parts, of its baseline in eager",
        f"at most {most:g}",
    )
    one = _fastest_certified(result, model, 512, "warm")
    if one is None or one.baseline.engine != EAGER.engine:
        return bar
    text = f"{one.ratio:.4f} ({1 / one.ratio:.0f} times as fast), {one.side.label}"
    return Bar(bar.name, bar.bar, text, one.ratio <= most, is_noisy(one.control))


def _from_native_code(result: NativeLatency) -> Bar:
    name = f"a call of one row from C++, {MOVIELENS}, the same variant in parts, warm"
    bar = Bar(name, f"at most {NATIVE_CODE_US:g} µs")
    chosen = _fastest_certified(result, MOVIELENS, 512, "warm")
    facts = _facts(result, "certified", MOVIELENS)
    found = None if chosen is None else facts.get(f"{FROM_NATIVE_CODE}{chosen.side.label}")
    if found is None:
        return bar
    return replace(bar, measured=f"{float(found):.1f} µs", reached=float(found) <= NATIVE_CODE_US)


def _one_row(result: NativeLatency, cache: str, told: str) -> Bar:
    bar = Bar(f"a call of one row from Python, {MOVIELENS}, the same variant in parts, {cache}", told)
    chosen = _fastest_certified(result, MOVIELENS, 512, "warm")
    found = _native(
        result,
        "certified",
        MOVIELENS,
        lambda one: chosen is not None and one.side == chosen.side and (one.rows, one.cache) == (1, cache),
    )
    if not found:
        return bar
    [one] = found
    reached = one.median_ms <= ONE_ROW_MS if cache == "warm" else None
    text = f"{1e3 * one.median_ms:.1f} µs ({1e3 * one.low_ms:.1f}-{1e3 * one.high_ms:.1f})"
    return Bar(bar.name, bar.bar, text, reached, is_noisy(one.control))


def _peak(result: NativeLatency) -> Bar:
    facts = _facts(result, "peak", CHAIN)
    instruction = facts.get("peak_instruction", "vpdpbusd")
    bar = Bar(f"{CHAIN}, 512 rows: share of the {instruction} peak of the same run", f"at least {PEAK_SHARE:.0%}")
    found = _native(result, "peak", CHAIN, lambda one: True)
    if not found or "peak_operations_per_s" not in facts:
        return bar
    [one] = found
    speed, peak = float(facts["operations"]) / one.median_ms * 1e3, float(facts["peak_operations_per_s"])
    text = f"{speed / peak:.0%}: {speed / 1e9:.0f} of {peak / 1e9:.0f} GOPS"
    return Bar(bar.name, bar.bar, text, speed / peak >= PEAK_SHARE, is_noisy(one.control))


def _families(result: NativeLatency) -> Bar:
    bar = Bar(
        "DLRM, DeepFM, Wide&Deep, DIN, MMoE: native runs all, at 1, 64 and 512 rows", "none slower than OpenVINO INT8"
    )
    timings = [one for one in _timings(result, "families") if one.counts]
    ours = {(one.model, one.rows): one for one in timings if one.side.engine == "native"}
    theirs = {
        (one.model, one.rows): one for one in timings if one.side.engine == "openvino" and one.side.numeric != "fp32"
    }
    if not ours:
        return bar
    missing = sorted({model for model, _ in theirs} - {model for model, _ in ours})
    missing += [model for model in FAMILY_MODELS if model not in {one.model for one in timings}]
    ratios = {key: one.median_ms / theirs[key].median_ms for key, one in ours.items()}
    worst = max(ratios, key=lambda key: ratios[key])
    text = f"slowest: {ratios[worst]:.2f} of its time, {worst[0]}, {worst[1]} rows"
    text += f"; not run: {', '.join(missing)}" if missing else ""
    noisy = any(is_noisy(one.control) for one in ours.values())
    return Bar(bar.name, bar.bar, text, not missing and ratios[worst] <= 1, noisy)


def _threads(result: NativeLatency) -> Bar:
    bar = Bar("two threads that call at once, 512 rows, rows a second of one thread's", f"at least {SCALING:g} times")
    section = result.sections.get("threads")
    found = [] if section is None else [one for one in section.scalings if one.side.numeric == "int8"]
    if not found:
        return bar
    [one] = found
    text = f"{one.ratio:.2f} times ({one.ratio_low:.2f}-{one.ratio_high:.2f})"
    return Bar(bar.name, bar.bar, text, one.ratio >= SCALING, is_noisy(one.control))


def _fastest_certified(result: NativeLatency, model: str, rows: int, cache: str) -> Timing | None:
    """The fastest native side in parts of the variants that are certified at the margin or a smaller one."""
    facts = _facts(result, "certified", model)

    def chosen(one: Timing) -> bool:
        margin = float(facts.get(f"margin_{one.side.variant}", 1))
        return (one.side.form, one.rows, one.cache) == ("parts", rows, cache) and margin <= CERTIFIED_MARGIN

    return _fastest(_native(result, "certified", model, chosen))


def _native(result: NativeLatency, section: str, model: str, chosen: Callable[[Timing], bool]) -> list[Timing]:
    timings = _timings(result, section)
    return [one for one in timings if one.model == model and one.side.engine == "native" and chosen(one)]


def _timings(result: NativeLatency, section: str) -> tuple[Timing, ...]:
    found: Section | None = result.sections.get(section)
    return () if found is None else found.timings


def _facts(result: NativeLatency, section: str, model: str) -> dict[str, float | int | str]:
    found = result.sections.get(section)
    return {} if found is None else dict(found.facts.get(model, {}))


_fastest: Callable[[Iterable[Timing]], Timing | None] = partial(min, key=lambda one: one.median_ms, default=None)

"""Does the certificate hold what it promises, where users and items make rows dependent? A simulation.

    python benchmarks/certificate_simulation.py --work FOLDER [--runs 2000]

Four questions: how often a variant passes whose true loss *is* the margin (at most 5 %), how often an equal one passes
(as often as the predicted power), how the standard errors compare with the spread over the runs, and how the bounds on
one data set compare with those of a bootstrap of 20,000 resamples. Chunks of 50 runs are kept in FOLDER, so that an
interrupted simulation goes on where it was; every run has a seed of its own.

Less than an hour on two cores.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist

import numpy as np
from pydantic import AwareDatetime
from script import new_file, run_script
from simulated_rows import (
    Models,
    Pair,
    World,
    draw,
    draw_population,
    exact_auc,
    exact_log_loss,
    models_of,
)

from rankine.bootstrap import Statistic, log_product, relative_fall
from rankine.certification.judging import PairedRows, judge, measure, measure_calibration
from rankine.certification.margins import Margins, MetricName
from rankine.certification.metric_tests import MetricTest
from rankine.config import Frozen
from rankine.environment import environment
from rankine.grouped import paired_group_auc, paired_ndcg
from rankine.metrics import row_log_loss, sigmoid
from rankine.stats import lower_bound, paired_delong, power_at_zero

RESULT = Path(__file__).resolve().parent / "results" / "certificate-simulation.json"
NAMES: tuple[MetricName, ...] = ("auc", "normalized_entropy", "calibration", "group_auc", "ndcg_at_10")
CHUNK = 50
WORLD = World()
LOSS = Pair(name="a true loss at the margin", error_b=1.6, log_ratio_b=0.03)
AWAY = Pair(name="calibration, both too high", log_ratio_a=0.1, log_ratio_b=0.13)
EQUAL = Pair(name="no difference", error_a=1.2, error_b=1.2)
POWER_MARGINS: Mapping[MetricName, tuple[float, ...]] = {
    "auc": (0.004, 0.008, 0.012, 0.016),
    "normalized_entropy": (0.006, 0.012, 0.018, 0.024),
    "calibration": (0.02, 0.03, 0.04, 0.05),
    "group_auc": (0.005, 0.01, 0.015, 0.02),
    "ndcg_at_10": (0.01, 0.02, 0.03, 0.04),
}
POPULATION_USERS, POPULATION_CHUNKS = 10_000, 60


class LevelCheck(Frozen):
    """Passes among ``runs`` data sets when the true difference is minus the margin.

    ``rate`` is for the certificate's own test; ``rate_ignoring`` for one that takes rows as independent (within groups:
    that ignores items). ``rate_se`` is the simulation's standard error at 5 %. ``se_mean`` is the mean of the standard
    errors found, ``spread`` the standard deviation of the differences over the runs; ``population_se`` is the
    standard error of ``difference`` itself, 0 where it is exact.
    """

    scenario: str
    metric: MetricName
    difference: float
    population_se: float
    runs: int
    rate: float
    rate_ignoring: float
    rate_se: float
    se_mean: float
    spread: float


class PowerCheck(Frozen):
    """Passes at ``margin`` of a variant without any difference, and the mean of the power that each run predicts."""

    metric: MetricName
    margin: float
    runs: int
    rate: float
    predicted: float


class IntervalCheck(Frozen):
    """One-sided 95 % bounds and standard error on one data set, clustered by user, and a bootstrap's of users."""

    metric: MetricName
    delta: float
    se: float
    ci_low: float
    ci_high: float
    bootstrap_se: float
    bootstrap_low: float
    bootstrap_high: float
    resamples: int


class CertificateSimulation(Frozen):
    """The result file."""

    schema_version: int = 1
    kind: str = "certificate-simulation"
    world: World
    pairs: tuple[Pair, ...]
    seed: int
    resamples: int
    levels: tuple[LevelCheck, ...]
    powers: tuple[PowerCheck, ...]
    intervals: tuple[IntervalCheck, ...]
    created: AwareDatetime
    environment: dict[str, str | int | float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where finished chunks are kept")
    parser.add_argument("--runs", type=int, default=2000, help="simulated data sets a question [default: 2000]")
    parser.add_argument("--seed", type=int, default=20, help="[default: 20]")
    parser.add_argument("--resamples", type=int, default=2000, help="of the certificate's own bootstrap")
    parser.add_argument("--large", type=int, default=20_000, help="resamples of the bootstrap that bounds are held to")
    parser.add_argument("--out", type=new_file, default=RESULT, help="[default: the committed result]")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    result = simulate(options.work, options.runs, options.seed, options.resamples, options.large)
    options.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def simulate(work: Path, runs: int, seed: int, resamples: int, large: int) -> CertificateSimulation:
    """All four questions, power on half of the runs; ``work`` keeps what is finished."""
    loss, away, equal = (models_of(WORLD, pair) for pair in (LOSS, AWAY, EQUAL))
    truth, truth_se = population(work, loss, seed)
    found = outcomes(work / "loss", loss, runs, [seed, 1], resamples)
    levels = [
        _level(LOSS.name, name, found[:, place], truth[place], truth_se[place]) for place, name in enumerate(NAMES)
    ]
    calibration = outcomes(work / "away", away, runs, [seed, 2], resamples, only="calibration")
    levels.append(_level(AWAY.name, "calibration", calibration[:, 0], AWAY.log_ratio_a - AWAY.log_ratio_b, 0.0))
    even = outcomes(work / "equal", equal, runs // 2, [seed, 3], resamples)
    powers = [
        _power(name, margin, even[:, place]) for place, name in enumerate(NAMES) for margin in POWER_MARGINS[name]
    ]
    return CertificateSimulation(
        world=WORLD,
        pairs=(LOSS, AWAY, EQUAL),
        seed=seed,
        resamples=resamples,
        levels=tuple(levels),
        powers=tuple(powers),
        intervals=tuple(intervals(draw(WORLD, loss, np.random.default_rng([seed, 4])), large, seed)),
        created=datetime.now(UTC),
        environment=environment(),
    )


def population(work: Path, models: Models, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True differences by metric, and their standard errors: by quadrature, within groups from very many users."""
    pair = models.pair
    auc = exact_auc(WORLD, pair.error_b) - exact_auc(WORLD, pair.error_a)
    losses = (
        exact_log_loss(WORLD, pair.error_a, models.intercept_a),
        exact_log_loss(WORLD, pair.error_b, models.intercept_b),
    )
    calibration = abs(pair.log_ratio_a) - abs(pair.log_ratio_b)

    def one(chunk: int) -> np.ndarray:
        rows = draw_population(WORLD, models, POPULATION_USERS, np.random.default_rng([seed, 0, chunk]))
        parts = (paired_group_auc, paired_ndcg)
        return np.array([part(rows.positive, rows.a, rows.b, rows.clusters["user"]).delta for part in parts])

    within = np.stack([_kept(work / f"population-{chunk}.npy", one, chunk) for chunk in range(POPULATION_CHUNKS)])
    errors = within.std(axis=0, ddof=1) / math.sqrt(len(within))
    truth = np.array([auc, 1 - losses[1] / losses[0], calibration, *within.mean(axis=0)])
    return truth, np.array([0.0, 0.0, 0.0, *errors])


def outcomes(
    work: Path, models: Models, runs: int, seed: list[int], resamples: int, only: MetricName | None = None
) -> np.ndarray:
    """What the tests said of each run: ``(runs, metrics, 5)`` of difference, standard error, lower bound, the lower
    bound where dependence is ignored, and degrees of freedom."""

    def chunk(first: int) -> np.ndarray:
        print(f"{models.pair.name}: runs {first} to {first + CHUNK - 1} of {runs}", flush=True)
        return np.stack([_one_run(models, [*seed, run], resamples, only) for run in range(first, first + CHUNK)])

    work.mkdir(parents=True, exist_ok=True)
    starts = range(0, runs, CHUNK)
    return np.concatenate([_kept(work / f"{start}.npy", chunk, start) for start in starts])[:runs]


def intervals(rows: PairedRows, resamples: int, seed: int) -> list[IntervalCheck]:
    """The certificate's bounds, clustered by user alone, beside those of a plain bootstrap of users."""
    by_user = PairedRows(rows.positive, rows.a, rows.b, {"user": rows.clusters["user"]}, rows.groups)
    tests = judge(measure(by_user, probabilities=True, seed=seed), Margins())
    large = large_bootstrap(by_user, resamples, np.random.default_rng([seed, 5]))
    return [
        IntervalCheck(
            metric=test.name,
            delta=test.delta,
            se=test.se,
            ci_low=test.ci_low,
            ci_high=test.ci_high,
            bootstrap_se=float(found.std()),
            bootstrap_low=float(np.quantile(found, 0.05)),
            bootstrap_high=float(np.quantile(found, 0.95)),
            resamples=resamples,
        )
        for test, found in zip(tests, large.T, strict=True)
    ]


def large_bootstrap(rows: PairedRows, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Every metric computed anew on each resample of users, ``(resamples, metrics)``."""
    user = np.asarray(rows.clusters["user"])
    count = int(user.max()) + 1
    loss_a, loss_b = row_log_loss(rows.positive, rows.a), row_log_loss(rows.positive, rows.b)
    columns = (loss_a, loss_b, sigmoid(rows.a), sigmoid(rows.b), rows.positive.astype(float))
    sums = np.stack([np.bincount(user, weights=column, minlength=count) for column in columns], axis=1)
    lists = _per_user(rows, user, count)
    found = []
    for start in range(0, resamples, 200):
        part = min(200, resamples - start)
        drawn = rng.integers(0, count, (part, count)) + count * np.arange(part)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=part * count).reshape(part, count).astype(np.float64)
        total = weights @ sums
        log_a, log_b = np.log(total[:, 2] / total[:, 4]), np.log(total[:, 3] / total[:, 4])
        auc = _weighted_auc(rows.positive, rows.b, weights[:, user]) - _weighted_auc(
            rows.positive, rows.a, weights[:, user]
        )
        within = [weights @ (lists[:, 2 * at] * lists[:, 2 * at + 1]) / (weights @ lists[:, 2 * at]) for at in (0, 1)]
        found.append(np.stack([auc, 1 - total[:, 1] / total[:, 0], np.abs(log_a) - np.abs(log_b), *within], axis=1))
    return np.concatenate(found)


def _one_run(models: Models, seed: list[int], resamples: int, only: MetricName | None) -> np.ndarray:
    rows = draw(WORLD, models, np.random.default_rng(seed))
    if only == "calibration":
        tests = [measure_calibration(rows, resamples=resamples, seed=seed[-1]).at(0.01)]
    else:
        tests = judge(measure(rows, probabilities=True, resamples=resamples, seed=seed[-1]), Margins())
    return np.array(
        [[test.delta, test.se, test.ci_low, _ignoring(rows, test), test.freedom or np.inf] for test in tests]
    )


def _ignoring(rows: PairedRows, test: MetricTest) -> float:
    """The lower bound of a test that takes rows as independent; within groups, of one that ignores the items."""
    if test.name == "auc":
        se = paired_delong(rows.positive, rows.a, rows.b).se
    elif test.name == "normalized_entropy":
        losses = np.stack([row_log_loss(rows.positive, scores) for scores in (rows.a, rows.b)], axis=1)
        se = _row_wise_se(losses, relative_fall())
    elif test.name == "calibration":
        columns = np.stack([sigmoid(rows.a), sigmoid(rows.b)], axis=1)
        growth = abs(float(np.log(columns[:, 1].sum() / columns[:, 0].sum())))
        return -(growth + NormalDist().inv_cdf(0.95) * _row_wise_se(columns, log_product((-1.0, 1.0))))
    else:
        part = paired_group_auc if test.name == "group_auc" else paired_ndcg
        se = part(rows.positive, rows.a, rows.b, rows.clusters["user"]).se
    return lower_bound(test.delta, se)


def _row_wise_se(columns: np.ndarray, statistic: Statistic) -> float:
    influence = columns @ statistic.gradient(columns.sum(axis=0))
    return float(np.sqrt(np.square(influence).sum()))


def _level(scenario: str, name: MetricName, found: np.ndarray, truth: float, truth_se: float) -> LevelCheck:
    """``found`` is ``(runs, 5)``; a run passes at the margin ``-truth`` where its lower bound is above ``truth``."""
    runs = len(found)
    return LevelCheck(
        scenario=scenario,
        metric=name,
        difference=float(truth),
        population_se=float(truth_se),
        runs=runs,
        rate=float((found[:, 2] > truth).mean()),
        rate_ignoring=float((found[:, 3] > truth).mean()),
        rate_se=math.sqrt(0.05 * 0.95 / runs),
        se_mean=float(found[:, 1].mean()),
        spread=float(found[:, 0].std(ddof=1)),
    )


def _power(name: MetricName, margin: float, found: np.ndarray) -> PowerCheck:
    errors = zip(found[:, 1].tolist(), found[:, 4].tolist(), strict=True)
    if name == "calibration":  # tested from both sides, each at half the level
        chances = [max(0.0, 2 * power_at_zero(se, margin, 0.975) - 1) for se, _ in errors]
    else:
        chances = [power_at_zero(se, margin, freedom=freedom) for se, freedom in errors]
    rate = float((found[:, 2] > -margin).mean())
    return PowerCheck(metric=name, margin=margin, runs=len(found), rate=rate, predicted=float(np.mean(chances)))


def _weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC of distinct scores under weights of the rows, ``(resamples, rows)``; shape ``(resamples,)``."""
    order = np.argsort(scores)
    ordered = weights[:, order]
    of_negative = np.where(positive[order], 0.0, ordered)
    of_positive = ordered - of_negative
    below = np.cumsum(of_negative, axis=1)
    return (of_positive * below).sum(axis=1) / (of_positive.sum(axis=1) * below[:, -1])


def _per_user(rows: PairedRows, user: np.ndarray, count: int) -> np.ndarray:
    """For each user: weight and difference of AUC, weight and difference of NDCG; shape ``(users, 4)``."""
    found = np.zeros((count, 4))
    for one in range(count):
        mine = user == one
        parts = rows.positive[mine], rows.a[mine], rows.b[mine], np.zeros(int(mine.sum()))
        auc, ndcg = paired_group_auc(*parts), paired_ndcg(*parts)
        found[one] = (auc.groups * mine.sum(), auc.delta, ndcg.groups, ndcg.delta)
    return found


def _kept(path: Path, make: Callable[[int], np.ndarray], at: int) -> np.ndarray:
    """The array in a file, made and written first where there is none."""
    if not path.exists():
        unfinished = path.with_suffix(".unfinished.npy")
        np.save(unfinished, make(at))
        unfinished.rename(path)
    found: np.ndarray = np.load(path)
    return found


if __name__ == "__main__":
    run_script(main)

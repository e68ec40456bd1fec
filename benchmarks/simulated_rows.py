"""A world of users and items for simulations of the certificate: what two models say of it, and the truth about them.

The logit of a row is an intercept plus normal effects of the user, of the item and of the row. Both models know a part
of it and share a part of what they get wrong; what they get wrong each on its own has a user, an item and a row
component too. That is what makes rows of one item dependent in the *difference* of two models, and a test that ignores
it too bold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rankine.certification.judging import PairedRows
from rankine.config import Frozen
from rankine.metrics import sigmoid


class World(Frozen):
    """Sizes, and the standard deviations of the effects (user, item, row) in logits."""

    users: int = 300
    items: int = 150
    list_log_mean: float = 3.3
    list_log_sd: float = 0.5
    list_least: int = 8
    list_most: int = 100
    popularity: float = 0.5
    intercept: float = -0.3
    truth: tuple[float, float, float] = (0.8, 0.8, 0.8)
    known: float = 0.75
    shared: tuple[float, float, float] = (0.1, 0.1, 0.4)
    own: tuple[float, float, float] = (0.12, 0.2, 0.25)


class Pair(Frozen):
    """Two models of a world: how much their own errors are blown up, and the log of their calibration ratios."""

    name: str
    error_a: float = 1.0
    error_b: float = 1.0
    log_ratio_a: float = 0.0
    log_ratio_b: float = 0.0


@dataclass(frozen=True)
class Models:
    """A pair with the intercepts that give it its calibration ratios."""

    pair: Pair
    intercept_a: float
    intercept_b: float


def models_of(world: World, pair: Pair) -> Models:
    """Intercepts found by bisection, on means by quadrature: the calibration ratios are exact."""
    rate = _mean_probability(world.intercept, _sd(world.truth))

    def intercept(error: float, log_ratio: float) -> float:
        sd = model_sd(world, error)
        return _bisect(lambda at: _mean_probability(at, sd) - rate * np.exp(log_ratio))

    return Models(pair, intercept(pair.error_a, pair.log_ratio_a), intercept(pair.error_b, pair.log_ratio_b))


def draw(world: World, models: Models, rng: np.random.Generator) -> PairedRows:
    """One held-out data set: every user has a list of different items, popular ones more often."""
    sizes = list_sizes(world, world.users, rng)
    appeal = -world.popularity * np.log(np.arange(1, world.items + 1)) + rng.gumbel(size=(world.users, world.items))
    chosen = np.argsort(-appeal, axis=1)
    user = np.repeat(np.arange(world.users), sizes)
    place = np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return _rows(world, models, user, chosen[user, place], rng)


def draw_population(world: World, models: Models, users: int, rng: np.random.Generator) -> PairedRows:
    """Rows of ``users`` users in which no item occurs twice: their metrics have the population's expectation."""
    sizes = list_sizes(world, users, rng)
    user = np.repeat(np.arange(users), sizes)
    return _rows(world, models, user, np.arange(len(user)), rng)


def list_sizes(world: World, users: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of each user, log-normal within limits."""
    sizes = np.rint(np.exp(rng.normal(world.list_log_mean, world.list_log_sd, users))).astype(np.int64)
    return np.clip(sizes, world.list_least, min(world.list_most, world.items))


def model_sd(world: World, error: float) -> float:
    """Standard deviation of a model's logits."""
    return float(
        np.sqrt((world.known * _sd(world.truth)) ** 2 + _sd(world.shared) ** 2 + (error * _sd(world.own)) ** 2)
    )


def exact_auc(world: World, error: float, points: int = 20_001) -> float:
    """The population's AUC of a model, by quadrature over its logit (the intercepts do not matter)."""
    sd, truth_sd = model_sd(world, error), _sd(world.truth)
    z = np.linspace(-9.0, 9.0, points)
    density = np.exp(-(z**2) / 2)
    slope = world.known * truth_sd**2 / sd  # of the truth on the model's standardized logit
    left = float(np.sqrt(max(truth_sd**2 - slope**2, 0.0)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    chance = sigmoid(world.intercept + slope * z[:, None] + left * nodes) @ (weights / weights.sum())
    positive, negative = density * chance, density * (1 - chance)
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def exact_log_loss(world: World, error: float, intercept: float) -> float:
    """The population's log loss of a model in nats, by quadrature over the truth and the model's own part."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    truth = _sd(world.truth) * nodes
    own = float(np.sqrt(_sd(world.shared) ** 2 + (error * _sd(world.own)) ** 2))
    logits = intercept + world.known * truth[:, None] + own * nodes
    losses = np.logaddexp(0, logits) - sigmoid(world.intercept + truth)[:, None] * logits
    return float(weights @ losses @ weights)


def _rows(world: World, models: Models, user: np.ndarray, item: np.ndarray, rng: np.random.Generator) -> PairedRows:
    def effects(scales: tuple[float, float, float]) -> np.ndarray:
        of_user, of_item, of_row = scales
        found = of_user * rng.normal(size=user.max() + 1)[user]
        found += of_item * rng.normal(size=item.max() + 1)[item]
        return found + of_row * rng.normal(size=len(user))

    truth = effects(world.truth)
    positive = rng.random(len(user)) < sigmoid(world.intercept + truth)
    both = world.known * truth + effects(world.shared)
    a = models.intercept_a + both + models.pair.error_a * effects(world.own)
    b = models.intercept_b + both + models.pair.error_b * effects(world.own)
    return PairedRows(positive, a, b, {"user": user, "item": item}, user)


def _sd(scales: tuple[float, float, float]) -> float:
    return float(np.sqrt(np.square(scales).sum()))


def _mean_probability(mean: float, sd: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    return float(sigmoid(mean + sd * nodes) @ weights / weights.sum())


def _bisect(function: Callable[[float], float], low: float = -8.0, high: float = 8.0) -> float:
    """The zero of an increasing function."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2

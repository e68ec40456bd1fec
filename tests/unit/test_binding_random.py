"""Random graphs, sides, prices and rows: the split model computes what the model computes, and so do its parts as they
are laid out for engines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import onnx
import pytest

from rankine.compilation.binding import Binding, BindingPlan, CostModel, Settings, split_graph
from rankine.compilation.binding.costs import Storage
from rankine.compilation.binding.layout import LaidOut, lay_out
from rankine.compilation.binding.places import Part, Places
from rankine.compilation.binding.storage import restored
from rankine.models.graph_inputs import Piece, Rounding
from unit.binding_graphs import Rows, in_float64, random_graph, random_rows

_GRAPHS = int(os.environ.get("RANKINE_RANDOM_GRAPHS", "200"))
_PER_TEST = 20


def _seeds(first: int) -> Iterator[tuple[int, np.random.Generator]]:
    for seed in range(first, min(first + _PER_TEST, _GRAPHS)):
        yield seed, np.random.default_rng(seed)


def _prices(random: np.random.Generator) -> CostModel:
    return CostModel(catalog_byte=float(random.choice([0, 0.1, 4])), request_byte=float(random.choice([0, 1])))


@pytest.mark.parametrize("first", range(0, _GRAPHS, _PER_TEST))
def test_split_model_gives_the_same_logits_when_the_graph_is_random(first: int) -> None:
    for seed, random in _seeds(first):
        model, sides = random_graph(seed)
        prices = _prices(random)
        limit = None if random.random() < 0.7 else int(random.integers(0, 200))
        split = split_graph(model, sides, Settings(costs=prices, catalog_bytes=limit))
        rows = random_rows(model, sides, int(random.integers(1, 12)), seed)
        (expected,) = in_float64(model, rows.gathered())
        error = _error(rows.split(split, in_float64), expected)
        assert error < 1e-6, f"seed {seed}: {error}"
        assert split.plan.work.candidate <= split.plan.work.before, f"seed {seed}"
        assert limit is None or split.plan.stored_bytes_per_item <= limit, f"seed {seed}"


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("first", range(0, _GRAPHS, _PER_TEST))
def test_laid_out_parts_give_the_logits_of_the_split_when_the_graph_is_random(first: int, storage: Storage) -> None:
    """What engines run: matrices of items and requests, and inputs gathered from slices of both."""
    met = set()
    for seed, random in _seeds(first):
        model, sides = random_graph(seed)
        split = split_graph(model, sides, Settings(costs=_prices(random), storage=storage))
        rows = random_rows(model, sides, int(random.integers(1, 12)), seed)
        laid_out = lay_out(split, storage)
        error = _error(_Reading(split.plan, laid_out, rows, storage).logits(), rows.split(split, in_float64))
        assert error < 1e-6, f"seed {seed}: {error}"
        met |= {piece.side for given in laid_out.inputs for piece in given.pieces}
    assert met == {"feature", "item", "request", "both"}


@pytest.mark.parametrize("together", [True, False])
def test_pieces_hold_the_values_of_their_parts_when_these_lie_anyhow(together: bool) -> None:
    """Neighbors in an input need not be neighbors where they come from; in graphs they nearly always are."""
    items = {f"item {n}": np.array([10.0, 20.0]) * (n + 1) for n in range(4)}
    requests = {f"request {n}": np.array([0.1, 0.2]) * (n + 1) for n in range(4)}
    for seed in range(_GRAPHS):
        random = np.random.default_rng(seed)
        places = Places(together=together)
        inputs = [_parts(random, list(items), list(requests)) for _ in range(3)]
        pieces = [places.pieces(parts) for parts in inputs]
        stored = np.concatenate([items[name] for name in places.item] or [np.empty(0)])
        ends = np.cumsum((0, *places.stored))
        computed = np.concatenate([requests[name] for name in places.request] or [np.empty(0)])
        for parts, own in zip(inputs, pieces, strict=True):
            found = np.zeros(2 * len(parts))
            for piece in own:
                columns = slice(piece.column, piece.column + piece.width)
                if piece.item is not None:
                    start = ends[int(piece.item)] + piece.item_start
                    assert start + piece.width <= ends[int(piece.item) + 1], f"seed {seed}"
                    found[columns] += stored[start : start + piece.width]
                if piece.request is not None:
                    found[columns] += computed[piece.request : piece.request + piece.width]
            expected = [items.get(part.item or "", 0) + requests.get(part.request or "", np.zeros(2)) for part in parts]
            np.testing.assert_allclose(found, np.concatenate(expected), err_msg=f"seed {seed}")


def _parts(random: np.random.Generator, items: list[str], requests: list[str]) -> list[Part]:
    """Of one input: values of an item, of a request, and sums of one of each, two columns wide."""
    found = []
    for side in random.choice(["item", "request", "both"], random.integers(1, 7)):
        item = None if side == "request" else str(random.choice(items))
        found.append(Part(2, item=item, request=None if side == "item" else str(random.choice(requests))))
    return found


class _Reading:
    """What :class:`~rankine.models.graph_inputs.GraphInput` says of each input, read by NumPy in float64."""

    def __init__(self, plan: BindingPlan, laid_out: LaidOut, rows: Rows, storage: Storage) -> None:
        self._laid_out, self._rows, self._features = laid_out, rows, rows.gathered()
        items = self._early(laid_out.catalog, Binding.CATALOG, plan.catalog_inputs, sum(laid_out.stored))
        ends = np.cumsum((0, *laid_out.stored))
        self._items = [restored(items[:, start:end], storage) for start, end in pairwise(ends)]
        self._requests = self._early(laid_out.request, Binding.REQUEST, plan.request_inputs, laid_out.request_width)

    def logits(self) -> np.ndarray:
        graph = self._laid_out.candidate
        assert [value.name for value in graph.graph.input] == [given.name for given in self._laid_out.inputs]
        feeds = {}
        for given in self._laid_out.inputs:
            feeds[given.name] = np.full((len(self._rows.item_index), given.width), np.nan)
            for piece in given.pieces:
                feeds[given.name][:, piece.column : piece.column + piece.width] = self._values(piece)
            if given.rounding is not None:
                feeds[given.name] = _codes(feeds[given.name], given.rounding)
        (found,) = in_float64(graph, feeds)
        return found

    def _early(self, graph: onnx.ModelProto | None, side: Binding, features: tuple[str, ...], width: int) -> np.ndarray:
        """What a part gives of all items or of all requests, ``(n, width)``."""
        columns = self._rows.columns[side]
        if graph is None:
            assert width == 0
            return np.empty((0, 0))
        names = [value.name for value in graph.graph.input]
        feeds = {name: columns[name] for name in names if name in columns}
        if not feeds:  # all features side by side
            feeds = {names[0]: np.concatenate([columns[name] for name in features], axis=1)}
        (found,) = in_float64(graph, feeds)
        assert found.shape[1] == width
        return found

    def _values(self, piece: Piece) -> np.ndarray:
        """Of the rows, ``(rows, width of the piece)``."""
        if piece.feature is not None:
            return self._features[piece.feature]
        found = np.zeros((len(self._rows.item_index), piece.width))
        if piece.item is not None:
            of_items = self._items[int(piece.item)][self._rows.item_index]
            found += of_items[:, piece.item_start : piece.item_start + piece.width]
        if piece.request is not None:
            of_requests = self._requests[self._rows.request_index]
            found += of_requests[:, piece.request : piece.request + piece.width]
        return found


def _codes(values: np.ndarray, rounding: Rounding) -> np.ndarray:
    raised = np.maximum(values, 0.0) if rounding.relu else values
    return np.clip(np.rint(raised / rounding.step) + rounding.zero, 0, 255).astype(np.uint8)


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest logit; NaN, which no bound admits, where a logit is NaN."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))

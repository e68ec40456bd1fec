"""Every kernel of the engine triton-lang against NumPy, in small shapes with tails: on a GPU, or in the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from engine.installed import installed_engine

pytestmark = pytest.mark.engine

installed_engine("triton-lang")

import torch  # noqa: E402

from rankine.compilation.engines.triton_lang import kernels  # noqa: E402
from rankine.compilation.engines.triton_lang.available import devices_here  # noqa: E402
from rankine.compilation.engines.triton_lang.device import device_named  # noqa: E402
from rankine.compilation.engines.triton_lang.kernels import elementwise  # noqa: E402
from rankine.compilation.engines.triton_lang.kernels.linear import Form  # noqa: E402
from rankine.compilation.fused.program import Binary, Unary  # noqa: E402

DEVICE = device_named(devices_here()[0]).torch_device
SHAPES = [(1, 5, 3), (17, 33, 20), (40, 64, 70)]
"""Rows, inner size and columns of a layer."""
TOLERANCE: dict[Form, float] = {"fp32": 1e-5, "bf16": 2e-2, "fp8": 0.1}


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _on(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)


def _empty(*shape: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    fill = float("nan") if kind.is_floating_point else 77
    return torch.full(shape, fill, dtype=kind, device=DEVICE)


def _close(found: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    error = np.abs(found.cpu().numpy() - expected).max()
    assert error <= tolerance * max(1.0, np.abs(expected).max())


def _rounded(values: np.ndarray, form: Form, largest: np.ndarray) -> np.ndarray:
    """What a form keeps of numbers; of FP8 in steps of ``largest / 448``, which broadcasts."""
    if form == "fp32":
        return values
    held = torch.from_numpy(values)
    if form == "bf16":
        return held.to(torch.bfloat16).float().numpy()
    step = torch.from_numpy(np.asarray(largest / 448, np.float32))
    return ((held / step).to(torch.float8_e4m3fn).float() * step).numpy()


@pytest.mark.parametrize("form", ["fp32", "bf16", "fp8"])
@pytest.mark.parametrize(("rows", "inner", "width"), SHAPES)
def test_linear_gives_the_product_of_what_a_form_keeps_when_it_is_of_floats(
    form: Form, rows: int, inner: int, width: int
) -> None:
    source, matrix, bias = _normal(1, rows, inner), _normal(2, inner, width), _normal(3, width)
    largest = np.abs(source).max(axis=1, keepdims=True)
    layer = kernels.weights(matrix, form, DEVICE)
    target = _empty(rows, width)
    kernels.linear(_on(source), layer, target=target, bias=_on(bias), kind=1)
    kept = _rounded(source, form, largest) @ _rounded(matrix, form, np.abs(matrix).max(axis=0))
    _close(target, np.maximum(kept + bias, 0), 1e-3 if form == "fp8" else 1e-5)
    assert np.abs(target.cpu().numpy() - np.maximum(source @ matrix + bias, 0)).max() < 0.2 * inner**0.5


@pytest.mark.parametrize(("rows", "inner", "width"), SHAPES)
def test_linear_is_exact_when_it_is_of_codes(rows: int, inner: int, width: int) -> None:
    random = np.random.default_rng(4)
    source = random.integers(0, 256, (rows, inner), np.uint8)
    matrix = random.integers(-127, 128, (inner, width)).astype(np.int8)
    zero = 131
    correction = (-zero * matrix.astype(np.int64).sum(axis=0)).astype(np.int32)
    layer = kernels.weights(matrix, "int8", DEVICE, correction=correction)
    target = _empty(rows, width)
    kernels.linear(_on(source), layer, target=target)
    expected = (source.astype(np.int64) - zero) @ matrix.astype(np.int64)
    assert (target.cpu().numpy() == expected).all()


def test_linear_rounds_half_to_even_and_saturates_when_codes_are_asked_for() -> None:
    source = np.array([[0.5], [1.5], [2.5], [-0.5], [300.0], [-300.0], [3.49]], np.float32)
    layer = kernels.weights(np.ones((1, 1), np.float32), "fp32", DEVICE)
    codes = _empty(len(source), 1, kind=torch.uint8)
    kernels.linear(_on(source), layer, codes=codes, quant=_on(np.ones(1, np.float32)), zero=10.0)
    assert codes.cpu().numpy().ravel().tolist() == [10, 12, 12, 10, 255, 0, 13]


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_linear_does_all_that_follows_in_its_order_when_everything_is_given(form: str) -> None:
    rows, inner, width = 21, 19, 35
    random = np.random.default_rng(5)
    matrix, scale, correction = _normal(6, inner, width), None, None
    source, sums = _normal(7, rows, inner), np.zeros(0)
    if form == "int8":
        source, matrix = random.integers(0, 256, (rows, inner), np.uint8), random.integers(-127, 128, (inner, width))
        matrix, scale = matrix.astype(np.int8), random.uniform(1e-4, 1e-3, width).astype(np.float32)
        correction = random.integers(-900, 900, width).astype(np.int32)
        sums = (source.astype(np.int64) @ matrix.astype(np.int64) + correction) * scale
    else:
        sums = source @ matrix
    bias, slope = _normal(8, width), np.abs(_normal(9, width))
    addend, factor, added = _normal(10, rows, width), _normal(11, rows, width), _normal(12, rows, width)
    value = sums + bias + addend
    value = np.where(value < 0, value * slope, value) * factor + added
    layer = kernels.weights(matrix, form, DEVICE, scale=scale, correction=correction)  # type: ignore[arg-type]
    wide = _empty(rows, width + 9)
    target, codes = wide[:, 4 : 4 + width], _empty(rows, width, kind=torch.uint8)
    quant = np.full(width, 20.0, np.float32)
    given = {"bias": bias, "addend": addend, "slope": slope, "factor": factor, "added": added, "quant": quant}
    held = {name: _on(array) for name, array in given.items()}
    kernels.linear(_on(source), layer, target=target, codes=codes, kind=2, zero=128.0, **held)  # type: ignore[arg-type]
    _close(target, value)
    assert bool(torch.isnan(wide[:, :4]).all() & torch.isnan(wide[:, 4 + width :]).all()), "wrote beside its columns"
    expected = np.clip(np.rint(value * 20) + 128, 0, 255)
    assert np.abs(codes.cpu().numpy() - expected).max() <= 1
    assert (codes.cpu().numpy() == expected).mean() > 0.99


@pytest.mark.parametrize("form", ["fp32", "bf16", "int8"])
def test_split_layer_gives_the_whole_layers_sums_when_rows_share_a_requests_part(form: Form) -> None:
    rows, own, shared, width, requests = 37, 18, 25, 40, 5
    random = np.random.default_rng(13)
    index = np.sort(random.integers(0, requests, rows)).astype(np.int32)
    of_request, of_item = _normal(14, requests, shared) @ _normal(15, shared, width), _normal(18, rows, width)
    source, matrix = _normal(16, rows, own), _normal(17, own, width)
    if form == "int8":
        source, matrix = random.integers(0, 256, (rows, own), np.uint8), random.integers(-9, 9, (own, width))
        matrix = matrix.astype(np.int8)
    layer, target = kernels.weights(matrix, form, DEVICE), _empty(rows, width)
    given = {"addend": _on(of_item), "shared": _on(of_request), "request_index": _on(index)}
    kernels.linear(_on(source), layer, target=target, kind=1, **given)
    sums = source.astype(np.float64) @ matrix.astype(np.float64)
    _close(target, np.maximum(sums + of_item + of_request[index], 0), TOLERANCE.get(form, 1e-5))


@pytest.mark.parametrize("form", ["fp32", "bf16", "fp8"])
@pytest.mark.parametrize(("rows", "width", "rank"), [(1, 7, 2), (33, 50, 12), (18, 96, 40)])
def test_cross_layer_is_the_papers_when_it_is_of_low_rank(form: Form, rows: int, width: int, rank: int) -> None:
    first, source, bias = _normal(18, rows, width), _normal(19, rows, width), _normal(20, width)
    down, up = _normal(21, width, rank) / 4, _normal(22, rank, width) / 4
    target, held = _empty(rows, width), _on(source)
    layers = kernels.weights(down, form, DEVICE), kernels.weights(up, form, DEVICE)
    kernels.low_rank_cross(held, *layers, _on(first), held, target, bias=_on(bias))
    _close(target, first * (source @ down @ up + bias) + source, TOLERANCE[form])


def test_cross_layer_gives_the_codes_of_two_layers_when_it_is_of_codes() -> None:
    rows, width, rank = 21, 37, 9
    random = np.random.default_rng(23)
    source = _on(random.integers(0, 256, (rows, width), np.uint8))
    first, added, bias = _on(_normal(24, rows, width)), _on(_normal(25, rows, width)), _on(_normal(26, width))
    matrices = [random.integers(-127, 128, shape).astype(np.int8) for shape in ((width, rank), (rank, width))]
    scales = [np.full(size, 1e-4, np.float32) for size in (rank, width)]
    zeros = [random.integers(-900, 900, size).astype(np.int32) for size in (rank, width)]
    down, up = (
        kernels.weights(matrix, "int8", DEVICE, scale=scale, correction=zero)
        for matrix, scale, zero in zip(matrices, scales, zeros, strict=True)
    )
    steps, quant = _on(np.full(rank, 90.0, np.float32)), _on(np.full(width, 30.0, np.float32))
    between, codes, expected = (_empty(rows, size, kind=torch.uint8) for size in (rank, width, width))
    numbers, target = _empty(rows, width), _empty(rows, width)
    kernels.linear(source, down, codes=between, quant=steps, zero=120.0)
    after = {"bias": bias, "quant": quant, "zero": 128.0}
    kernels.linear(between, up, target=numbers, codes=expected, factor=first, added=added, **after)
    rounding = {"between_quant": steps, "between_zero": 120.0}
    kernels.low_rank_cross(source, down, up, first, added, target, codes=codes, **after, **rounding)
    assert torch.equal(codes, expected)
    assert torch.equal(target, numbers)


def test_cross_layer_refuses_a_rank_when_it_does_not_fit() -> None:
    one, wide = _empty(2, 300), kernels.weights(_normal(1, 300, 300), "fp32", DEVICE)
    with pytest.raises(ValueError, match="rank of 300"):
        kernels.low_rank_cross(one, wide, wide, one, one, one)


@pytest.mark.parametrize("form", ["fp32", "bf16"])
@pytest.mark.parametrize(("rows", "count", "width"), [(1, 2, 3), (9, 5, 16), (6, 27, 20)])
def test_interaction_gives_every_pair_once_when_rows_have_vectors(
    form: Form, rows: int, count: int, width: int
) -> None:
    vectors, pairs = _normal(23, rows, count, width), count * (count - 1) // 2
    wide, target = np.pad(vectors.reshape(rows, -1), ((0, 0), (0, 3))), _empty(rows, pairs + 2)
    held = _on(wide)[:, : count * width]
    kernels.dot_interaction(held, kernels.pairs_below(count).to(DEVICE), target, width=width, form=form)
    products = vectors @ vectors.transpose(0, 2, 1)
    expected = np.stack([one[np.tril_indices(count, -1)] for one in products])
    _close(target[:, :pairs], expected, TOLERANCE[form])
    assert bool(torch.isnan(target[:, pairs:]).all()), "wrote beside its columns"


def test_interaction_refuses_vectors_when_they_are_too_many() -> None:
    with pytest.raises(ValueError, match="65 vectors"):
        kernels.dot_interaction(_empty(1, 65), kernels.pairs_below(65), _empty(1, 9), width=1)


def _history(requests: int, most: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = np.minimum(np.arange(requests), most).astype(np.int32)
    history = _normal(40, requests, most, width)
    for at, length in enumerate(lengths):
        history[at, length:] = np.nan  # must not be read
    return history, lengths, np.repeat(np.arange(requests), 3).astype(np.int32)


def _shared(history: np.ndarray, lengths: np.ndarray, index: np.ndarray | None) -> kernels.History:
    held = _on(history.reshape(len(history), -1))
    return kernels.History(held, history.shape[1], _on(lengths), None if index is None else _on(index))


@pytest.mark.parametrize(("requests", "most", "width"), [(3, 5, 8), (5, 20, 17)])
def test_softmax_attention_reads_a_history_up_to_its_length_when_rows_share_it(
    requests: int, most: int, width: int
) -> None:
    history, lengths, index = _history(requests, most, width)
    query = _normal(41, len(index), width)
    target = _empty(len(index), width)
    kernels.softmax_attention(_on(query), _shared(history, lengths, index), target, scale=0.3)
    expected = np.zeros((len(index), width))
    for row, request in enumerate(index):
        held = history[request, : lengths[request]]
        if len(held):
            powers = np.exp(0.3 * held @ query[row])
            expected[row] = powers / powers.sum() @ held
    _close(target, expected)


def test_softmax_attention_shares_among_what_is_filled_when_a_mask_hides_steps() -> None:
    history, lengths, index = _normal(40, 4, 5, 8), np.array([0, 1, 3, 5], np.float32), np.arange(4, dtype=np.int32)
    query, target = _normal(41, 4, 8), _empty(4, 8)
    kernels.softmax_attention(_on(query), _shared(history, lengths, None), target, scale=0.3, fill=-1e9)
    scores = np.where(np.arange(5) < lengths[:, None], 0.3 * np.einsum("rld,rd->rl", history, query), -1e9)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    _close(target, np.einsum("rl,rld->rd", powers / powers.sum(axis=1, keepdims=True), history))
    assert len(index) == len(target)


@pytest.mark.parametrize("form", ["fp32", "bf16", "fp8"])
@pytest.mark.parametrize(("requests", "most", "width", "hidden"), [(3, 5, 8, 6), (4, 18, 17, 24)])
def test_unit_attention_is_the_papers_unit_when_its_first_layer_is_split(
    form: Form, requests: int, most: int, width: int, hidden: int
) -> None:
    history, lengths, index = _history(requests, most, width)
    query = _normal(42, len(index), width)
    parts = _normal(43, 4, width, hidden) / 4
    bias, last = _normal(44, hidden), _normal(45, hidden)
    of_query = query @ (parts[0] + parts[2]) + bias
    of_history = (history @ (parts[1] - parts[2])).reshape(requests, -1)
    unit = kernels.Unit(kernels.weights(parts[3], form, DEVICE), (-1, -1, 0), _on(last), _on(np.full(1, 0.5)).float())
    target = _empty(len(index), width)
    shared = _shared(history, lengths, index)
    kernels.unit_attention(_on(query), shared, unit, target, of_query=_on(of_query), of_history=_on(of_history))
    expected = np.zeros((len(index), width))
    for row, request in enumerate(index):
        keys = history[request, : lengths[request]]
        asked = np.broadcast_to(query[row], keys.shape)
        read = np.concatenate([asked, keys, asked - keys, asked * keys], axis=1)
        gates = np.maximum(read @ parts.reshape(-1, hidden) + bias, 0) @ last + 0.5
        expected[row] = gates @ keys
    _close(target, expected, TOLERANCE[form])


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_unit_attention_gives_what_its_layers_give_when_there_are_two(form: Form) -> None:
    """Layers whose kernel is tested for itself."""
    rows, most, width, hidden, second = 5, 6, 8, 24, 10
    random = np.random.default_rng(48)
    history, lengths, query = _normal(49, rows, most, width), np.arange(2, 7, dtype=np.int32), _normal(50, rows, width)
    asked = np.broadcast_to(query[:, None], history.shape)
    read = _on(np.concatenate([asked * history, history, asked - history], axis=2).reshape(-1, 3 * width))
    slope, slope2, bias = (_on(np.abs(_normal(51 + at, size))) for at, size in enumerate((hidden, second, hidden)))
    last, steps = _normal(54, second), _on(np.full(hidden, 25.0, np.float32))
    if form == "fp32":
        layers = [kernels.weights(_normal(55, *shape) / 5, form, DEVICE) for shape in ((24, hidden), (hidden, second))]
    else:
        layers = [
            kernels.weights(
                random.integers(-127, 128, shape).astype(np.int8), form, DEVICE, scale=np.full(shape[1], 1e-4)
            )
            for shape in ((3 * width, hidden), (hidden, second))
        ]
        wide = _empty(*read.shape, kind=torch.uint8)
        operands = [(given, 3 * width, (1,)) for given in (wide, read)]
        quant = (_on(np.full(3 * width, 30.0, np.float32)), 0, (1,))
        elementwise.elements(elementwise.QUANTIZE, len(read), (3 * width,), [*operands, quant], (120.0,))
        read = wide
    between, numbers = _empty(len(read), hidden, kind=torch.uint8), _empty(len(read), hidden)
    kernels.linear(read, layers[0], target=numbers, codes=between, bias=bias, kind=2, slope=slope, quant=steps, zero=60)
    later = _empty(len(read), second)
    kernels.linear(between if form == "int8" else numbers, layers[1], target=later, kind=2, slope=slope2)
    gates = (later.cpu().numpy() @ last).reshape(rows, most) * (np.arange(most) < lengths[:, None])
    target = _empty(rows, width)
    unit = kernels.Unit(
        layers[0], (1, 2, 0), _on(last), None, bias, 2, slope, 30.0, 120.0, layers[1], None, 2, slope2, steps, 60.0
    )
    kernels.unit_attention(_on(query), _shared(history, lengths, None), unit, target)
    _close(target, np.einsum("rl,rld->rd", gates, history))


@pytest.mark.parametrize("added", [False, True])
def test_spread_gives_rows_what_their_request_has_when_columns_lie_in_wider_rows(added: bool) -> None:
    shared, index, before = _normal(60, 4, 7), np.array([3, 0, 0, 1, 2], np.int32), _normal(61, 5, 12)
    target = _on(before.copy())
    kernels.spread(_on(shared)[:, 1:6], _on(index), target[:, 4:9], added=added)
    expected = before.copy()
    expected[:, 4:9] = shared[index, 1:6] + (before[:, 4:9] if added else 0)
    _close(target, expected)


def test_best_candidates_come_first_when_requests_have_different_sizes() -> None:
    offsets, count = np.array([0, 1, 40, 40, 61], np.int32), 6
    source, weight = _normal(46, 61, 19), _normal(47, 19)
    source[5] = source[9]  # of equal scores the first
    scores, best = _empty(4, count), _empty(4, count, kind=torch.int32)
    kernels.top_scores(_on(source), _on(weight), 0.25, _on(offsets), 39, scores, best)
    for request, (start, end) in enumerate(pairwise(offsets)):
        logits = (source[start:end].astype(np.float64) @ weight + 0.25).astype(np.float32)
        order = np.argsort(-logits, kind="stable")[:count]
        padded = np.pad(order, (0, count - len(order)), constant_values=-1)
        assert best[request].tolist() == padded.tolist()
        expected = 1 / (1 + np.exp(-logits[order].astype(np.float64)))
        found = scores[request].cpu().numpy()
        np.testing.assert_allclose(found[: len(order)], expected, rtol=1e-5)
        assert np.isnan(found[len(order) :]).all()


def test_best_candidates_are_refused_when_a_request_has_too_many() -> None:
    one = _empty(1, 1)
    with pytest.raises(ValueError, match="5000 candidates"):
        kernels.top_scores(one, one[0], 0.0, one.int(), 5000, one, one.int())


_FUNCTIONS: dict[Unary, Callable[[np.ndarray], np.ndarray]] = {
    Unary.TANH: np.tanh,
    Unary.SOFTPLUS: lambda x: np.logaddexp(x, 0),
    Unary.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    Unary.CLIP: lambda x: np.clip(x, -0.5, 2.0),
    Unary.AFFINE: lambda x: x * -0.5 + 2.0,
    Unary.ELU: lambda x: np.where(x < 0, -0.5 * np.expm1(x), x),
}


@pytest.mark.parametrize("kind", list(_FUNCTIONS))
def test_function_is_numpys_when_numbers_are_small_and_large(kind: Unary) -> None:
    source = np.concatenate([np.linspace(-30, 30, 61), np.linspace(-0.2, 0.2, 39), [1e-4, -1e-4]]).astype(np.float32)
    target = _empty(1, len(source))
    operands = [(target, 0, (1,)), (_on(source), 0, (1,))]
    elementwise.elements(kind, 1, (len(source),), operands, (-0.5, 2.0))
    np.testing.assert_allclose(target[0].cpu().numpy(), _FUNCTIONS[kind](source.astype(np.float64)), 2e-6, 1e-7)


def test_power_is_numpys_when_signs_and_exponents_differ() -> None:
    x = np.array([2, -2, -2, 0, -1.5, 3.5, 0], np.float32)
    y = np.array([3, 3, 2, 2, 0.5, -1.5, 0], np.float32)
    target = _empty(1, len(x))
    operands = [(target, 0, (1,)), (_on(x), 0, (1,)), (_on(y), 0, (1,))]
    elementwise.elements(elementwise.BINARY + Binary.POW, 1, (len(x),), operands)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(target[0].cpu().numpy(), np.power(x, y), 1e-6)

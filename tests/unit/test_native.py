"""The native module and its smaller kernels against NumPy equivalents, on ordinary and on hostile input."""

from __future__ import annotations

import ast
import inspect
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rankine
from rankine import _native
from unit.native_tables import dense, ints, make_table, native


def test_stub_names_and_parameters_equal_module_when_built() -> None:
    tree = ast.parse((Path(rankine.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))
    stub = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = {
        node.name: [method.name for method in node.body if isinstance(method, ast.FunctionDef)]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    built = {name for name in dir(_native) if not name.startswith("__")}
    assert {*stub, *classes} == built
    for name, members in classes.items():
        public = {member for member in members if not member.startswith("__")}
        assert {member for member in vars(getattr(_native, name)) if not member.startswith("__")} == public
    for name, parameters in stub.items():
        # nanobind keeps the signature in the first line of the docstring: name(a: T, b: T) -> R
        signature = (inspect.getdoc(getattr(_native, name)) or "").splitlines()[0].split(" -> ")[0]
        parsed = ast.parse(f"def {signature}: ...").body[0]
        assert isinstance(parsed, ast.FunctionDef)
        assert [a.arg for a in parsed.args.args] == parameters


@given(
    hnp.arrays(st.sampled_from([np.int32, np.int64]), st.integers(0, 40), elements=st.integers(-3, 12)),
    st.integers(0, 12),
)
def test_check_ids_equals_numpy_when_ids_are_any(ids: np.ndarray, rows: int) -> None:
    bad = np.flatnonzero((ids < 0) | (ids >= rows))
    assert _native.check_ids(ids, rows) == (bad[0] if len(bad) else -1)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("position", [0, 1023, 1024, 2999])
def test_check_ids_finds_position_when_array_spans_blocks(dtype: type, position: int) -> None:
    ids = np.zeros(3000, dtype)
    ids[position] = np.iinfo(dtype).min
    assert _native.check_ids(ids, 1) == position
    ids[position] = np.iinfo(dtype).max
    assert _native.check_ids(ids, 1) == position


def test_check_ids_accepts_all_when_rows_exceed_int32() -> None:
    ids = ints(0, 2**31 - 1)
    assert _native.check_ids(ids, 2**40) == -1
    assert _native.check_ids(ids, 2**31 - 1) == 1


def test_check_ids_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"^ids: dtype must be int32 or int64, got float64$"):
        _native.check_ids(np.zeros(3), 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^ids: must be a NumPy array, got list$"):
        _native.check_ids([1, 2], 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^ids: must have 1 dimension"):
        _native.check_ids(np.zeros((2, 2), np.int32), 5)
    with pytest.raises(ValueError, match=r"^ids: must be C-contiguous$"):
        _native.check_ids(np.zeros(6, np.int32)[::2], 5)
    with pytest.raises(ValueError, match=r"^rows: "):
        _native.check_ids(ints(1), -1)


def test_check_ids_refuses_array_when_byte_order_is_foreign() -> None:
    with pytest.raises(TypeError, match="ids: dtype"):
        _native.check_ids(np.zeros(3, np.dtype(np.int32).newbyteorder()), 5)


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 60),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]), st.floats(width=32, allow_nan=True)
        ),
    ),
    st.integers(1, 70),
)
def test_top_k_equals_stable_sort_when_scores_are_any(scores: np.ndarray, k: int) -> None:
    nan = np.isnan(scores)
    order = np.lexsort((np.arange(len(scores)), -np.where(nan, 0, scores), nan))
    positions = _native.top_k(scores, k)
    assert positions.dtype == np.int32
    np.testing.assert_array_equal(positions, order[:k])


@pytest.mark.parametrize("sigmoid", [False, True])
def test_best_ids_are_those_of_top_k_with_their_scores_when_given_together(sigmoid: bool) -> None:
    random = np.random.default_rng(4)
    ids = random.permutation(1000).astype(np.int64) - 500
    logits = random.normal(0, 40, (1000, 1)).astype(np.float32)
    logits[:3, 0] = [200, -200, 0]
    order = _native.top_k(logits[:, 0].copy(), 37)
    best, scores = _native.best_ids(ids, logits, 37, sigmoid)
    assert best == ids[order].tolist()
    wanted = logits[order, 0].astype(np.float64)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-wanted)) if sigmoid else wanted, rtol=3e-7)
    assert len(_native.best_ids(ids, logits, 5000, sigmoid)[0]) == 1000


@pytest.mark.parametrize("sigmoid", [False, True])
def test_best_json_reads_back_as_best_ids_when_numbers_are_of_all_sizes(sigmoid: bool) -> None:
    limits = np.iinfo(np.int64)
    ids = np.array([limits.min, limits.max, 0, -7, 10, 11, 12, 13, 14], np.int64)
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    logits = np.array([[huge], [-huge], [0], [3], [tiny], [1e-5], [-0.1], [1e16], [123456.78]], np.float32)
    for k in (1, 9, 50):
        found = [json.loads(text) for text in _native.best_json(ids, logits, k, sigmoid)]
        assert found == list(_native.best_ids(ids, logits, k, sigmoid))
        assert all(isinstance(score, float) for score in found[1])


def test_best_json_has_null_when_a_score_is_no_number() -> None:
    ids, logits = np.arange(3, dtype=np.int64), np.array([[np.nan], [2.0], [np.inf]], np.float32)
    assert _native.best_json(ids, logits, 3, False) == (b"[2,1,0]", b"[null,2.0,null]")
    assert _native.best_json(ids[:0], logits[:0], 3, False) == (b"[]", b"[]")


def test_best_ids_name_the_argument_when_input_is_wrong() -> None:
    ids, logits = np.arange(4, dtype=np.int64), np.zeros((4, 1), np.float32)
    with pytest.raises(ValueError, match=r"^k: must be at least 1$"):
        _native.best_ids(ids, logits, 0, True)
    with pytest.raises(ValueError, match=r"^logits: "):
        _native.best_ids(ids, logits[:3], 1, True)
    with pytest.raises(ValueError, match=r"^logits: "):
        _native.best_ids(ids, np.zeros((4, 2), np.float32), 1, True)
    with pytest.raises(TypeError, match=r"^ids: "):
        _native.best_ids(ids.astype(np.int32), logits, 1, True)


def test_top_k_puts_nan_below_minus_infinity_when_both_present() -> None:
    scores = np.array([np.nan, -np.inf, -np.nan, 3.0], np.float32)
    np.testing.assert_array_equal(_native.top_k(scores, 4), [3, 1, 0, 2])


def test_top_k_result_outlives_call_when_memory_is_reused() -> None:
    kept = [_native.top_k(np.arange(n + 1, dtype=np.float32), n + 1) for n in range(200)]
    assert all(np.array_equal(result, np.arange(n, -1, -1)) for n, result in enumerate(kept))


def test_top_k_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^k: must be at least 1$"):
        _native.top_k(np.zeros(3, np.float32), 0)
    with pytest.raises(TypeError, match=r"^scores: dtype must be float32, got float64$"):
        _native.top_k(np.zeros(3), 1)  # type: ignore[arg-type]


@given(st.integers(0, 6), st.sampled_from((1, 5, 16)), st.lists(st.integers(-1, 6), max_size=10))
def test_gather_dense_equals_numpy_when_index_is_any(count: int, dim: int, index: list[int]) -> None:
    values = np.arange(count * dim, dtype=np.float32).reshape(count, dim)
    good = [0 <= i < count for i in index]
    first_bad = good.index(False) if False in good else -1
    out = np.zeros((len(index), dim + 1), np.float32)
    assert _native.gather_dense(values, ints(*index), out, 1) == first_bad
    written = len(index) if first_bad < 0 else first_bad
    np.testing.assert_array_equal(out[:written, 1:], values[index[:written]].reshape(written, dim))


def test_gather_dense_names_argument_when_input_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^values: must have 2 dimension"):
        _native.gather_dense(np.zeros(3, np.float32), ints(0), np.zeros((1, 1), np.float32), 0)
    with pytest.raises(ValueError, match=r"^column: 1 leaves no room"):
        _native.gather_dense(np.zeros((3, 1), np.float32), ints(0), np.zeros((1, 1), np.float32), 1)


@pytest.mark.parametrize("form", ["int8 half", "mixed int8 half/int4 half", "product"])
def test_kernels_agree_when_many_threads_share_a_table(form: str) -> None:
    rng = np.random.default_rng(2)
    table = make_table(rng, form, 1000, 64)
    shared = native(table)
    values = rng.integers(0, 1000, 2000).astype(np.int32)
    index = np.arange(2000, dtype=np.int32)
    wanted = dense(table)[values]
    agreed: list[bool] = []

    def work() -> None:
        for _ in range(20):
            out = np.zeros((2000, 64), np.float32)
            found = _native.lookup_one(shared, values, index, out, 0)
            agreed.append(found == -1 and np.array_equal(out, wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreed == [True] * 80
